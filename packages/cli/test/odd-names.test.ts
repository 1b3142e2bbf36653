/** Names that are not UTF-8. Of arguments the bytes are lost before the command sees them, and what is left of a name is another file's; in images they stay as they are. */
import { readdirSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run, tool } from '../../engine/test/support/process.ts'
import { Fixtures, moraine, ourQemuImg } from './support/differential.ts'

describeWith(['sh'], 'arguments that are not UTF-8', () => {
  const fixtures = new Fixtures()
  const before = ['a.raw', '\uFFFD.raw']

  beforeAll(() => {
    for (const name of before) writeFileSync(fixtures.path(name), Buffer.alloc(512, name))
  })

  /** A shell makes the bytes: `?` in a line stands for one that no text has. */
  async function called(program: string, line: string): Promise<{ code: number | null; stderr: string }> {
    const script = `odd=$(printf '\\351'); exec "$0" ${line.replaceAll('?', '$odd')}`
    const { code, stderr } = await run(tool('sh').path ?? 'sh', ['-c', script, program], { cwd: fixtures.folder })
    return { code, stderr }
  }

  it.each([
    ['info ?.raw', 1, 1, '\\xe9.raw'],
    ['create -f qcow2 "new ?.qcow2" 1M', 1, 3, 'new \\xe9.qcow2'],
    ['convert -O raw a.raw ""?', 1, 4, '\\xe9'],
    ['compare a.raw ?.raw', 2, 2, '\\xe9.raw'],
  ])('%s is refused', async (line, code, at, name) => {
    for (const [program, calledAs] of [
      [moraine, 'moraine'],
      [ourQemuImg, 'qemu-img'],
    ] as const) {
      const answer = await called(program, line)
      expect(answer.code).toBe(code)
      expect(answer.stderr).toContain(`${calledAs}: argument ${at} is not UTF-8: '${name}'\nNames of files are text`)
    }
    expect(readdirSync(fixtures.folder).sort()).toEqual(before.toSorted())
  })

  it('takes the letter that stands for lost bytes where it was meant', async () => {
    const { code, stderr } = await called(moraine, 'info -f raw \uFFFD.raw')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })
})

describeWith(['sh', 'qemu-img'], 'names in images that are not UTF-8', () => {
  const fixtures = new Fixtures()
  const theirs = tool('qemu-img').path ?? 'qemu-img'

  /** What a program prints, byte for byte. */
  async function printed(program: string, line: string): Promise<string> {
    const { code, stdout, stderr } = await run(
      tool('sh').path ?? 'sh',
      ['-c', `odd=$(printf '\\351'); "$0" ${line.replaceAll('?', '$odd')} | od -An -v -tx1`, program],
      { cwd: fixtures.folder },
    )
    expect({ line, code, stderr }).toEqual({ line, code: 0, stderr: '' })
    return Buffer.from(stdout.replaceAll(/\s/g, ''), 'hex').toString('latin1')
  }

  it.each(['qcow2', 'qcow', 'qed'])('of backing files are printed, and not opened: %s', async (format) => {
    await printed(theirs, 'create -q -f raw b?.raw 1M')
    await printed(theirs, `create -q -f ${format} -b b?.raw -F raw over`)
    for (const line of ['info over', 'info --output=json over']) {
      const said = await printed(theirs, line)
      expect(said).toMatch(/b(\xe9|\\uFFFD)\.raw/)
      expect(await printed(ourQemuImg, line)).toBe(said)
    }
    const { code, stderr } = await run(ourQemuImg, ['convert', '-O', 'raw', 'over', 'out'], { cwd: fixtures.folder })
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('The name is not UTF-8') })
    expect(readdirSync(fixtures.folder)).not.toContain('out')
  })

  it('are kept where others change', async () => {
    await printed(theirs, 'create -q -f qcow2 image 1M')
    await printed(theirs, 'snapshot -c "first ?" image')
    await printed(theirs, 'snapshot -c "first \uFFFD" image')
    await printed(theirs, 'bitmap --add image "map ?"')
    // The letter that lost bytes become elsewhere.
    await printed(theirs, 'bitmap --add image "map \uFFFD"')
    const before = await printed(theirs, 'snapshot -l image')
    for (const line of [
      'snapshot -c one image',
      'snapshot -d one image',
      'bitmap --add image more',
      'bitmap --remove image more',
      'amend -f qcow2 -o lazy_refcounts=on image',
    ]) {
      await printed(ourQemuImg, line)
      await printed(theirs, 'check image')
    }
    expect(await printed(theirs, 'snapshot -l image')).toBe(before)
    for (const line of ['snapshot -l image', 'info image', 'info --output=json image']) {
      expect(await printed(ourQemuImg, line)).toBe(await printed(theirs, line))
    }
  })
})
