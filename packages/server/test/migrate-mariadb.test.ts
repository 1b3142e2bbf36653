/** A real Glance on MariaDB is taken over. */
import { join } from 'node:path'
import { it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith } from '../../engine/test/support/process.ts'
import { describeWithGlance, type Glance, startGlance } from './support/glance.ts'
import { mariadbTools, startMariaDb } from './support/mariadb.ts'
import { compare, fill, taken } from './support/migration.ts'
import { services } from './support/service.ts'

const folder = temporaryFolder()
const start = services()

describeWith(mariadbTools, 'migration from MariaDB', () => {
  describeWithGlance('of a Glance', () => {
    it('takes over all of it', { timeout: 180_000 }, async () => {
      const home = folder.fresh()
      const database = await startMariaDb(join(home, 'db'))
      let glance: Glance | undefined
      try {
        await database.create('glance')
        const connection = `mysql+pymysql://root@localhost/glance?unix_socket=${database.socket}&charset=utf8`
        glance = await startGlance(home, false, false, connection)
        await fill(glance, join(home, 'images'))
        const { url, data } = await start({ data: folder.fresh() })
        await taken(data, { from: join(home, 'api.conf') })
        await compare(url, glance.url)
      } finally {
        await glance?.stop()
        await database.stop()
      }
    })
  })
})
