/** A real Glance on PostgreSQL is taken over. */
import { join } from 'node:path'
import { it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWithGlance, type Glance, startGlance } from './support/glance.ts'
import { compare, fill, taken } from './support/migration.ts'
import { describeWithPostgres, startPostgres } from './support/postgres.ts'
import { services } from './support/service.ts'

const folder = temporaryFolder()
const start = services()

describeWithPostgres('migration from PostgreSQL', () => {
  describeWithGlance('of a Glance', () => {
    it('takes over all of it', { timeout: 180_000 }, async () => {
      const home = folder.fresh()
      const database = await startPostgres()
      let glance: Glance | undefined
      try {
        await database.create('glance')
        glance = await startGlance(home, false, false, `postgresql+psycopg2://glance@/glance?host=${database.socket}`)
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
