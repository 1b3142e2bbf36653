/** Who is calling, by a real Keystone. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWithKeystone, type Keystone, startKeystone } from './support/keystone.ts'
import { ask } from './support/service.ts'

const folder = temporaryFolder()

describeWithKeystone('Keystone', () => {
  let keystone: Keystone
  beforeAll(async () => {
    keystone = await startKeystone(folder.file('keystone'))
    await keystone.user('ann', 'secret-ann', { garden: ['member'] })
  }, 120_000)
  afterAll(() => keystone?.stop())

  it('gives tokens to those who are known', async () => {
    const token = await keystone.token({ user: 'ann', password: 'secret-ann', project: 'garden' })
    const headers = { 'x-auth-token': token, 'x-subject-token': token }
    const answer = await ask(`${keystone.url}/auth/tokens`, 'GET', undefined, headers)
    expect(answer.json()).toMatchObject({ token: { user: { name: 'ann' }, project: { name: 'garden' } } })
    await expect(keystone.token({ user: 'ann', password: 'wrong', project: 'garden' })).rejects.toThrow('401')
  })
})
