/** One loop of reads or writes through the built engine: `engine-loop.ts FORMAT IMAGE read-2m|write-2m|read-4k|write-4k`. Prints seconds. */
import { allFormats, isWritable, openDisk } from '@moraine/engine'
import { fileGate, nodeCodecs, openFile } from '@moraine/engine/node'

const [format = '', image = '', what = ''] = process.argv.slice(2)
const writing = what.startsWith('write')
const unit = what.endsWith('2m') ? 2 ** 21 : 4096
const mode = writing ? 'write' : 'read'
const disk = await openDisk(await openFile(image, { mode, sync: 'unsafe' }), {
  formats: allFormats,
  format,
  mode,
  gate: fileGate(),
  codecs: nodeCodecs,
})
if (writing && !isWritable(disk)) throw new Error(`${image} cannot be written`)

const bytes = new Uint8Array(unit)
for (let i = 0; i < unit; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff
const units = Math.floor(disk.size / unit)
/** Sequential loops go over the disk once; random ones take 20,000 units, the same for both formats. */
const offsets =
  unit === 4096
    ? Array.from({ length: 20_000 }, (_, i) => ((i * 2_654_435_761) % 2 ** 32) % units)
    : Array.from({ length: units }, (_, i) => i)

const run = async (list: readonly number[]) => {
  for (const at of list) {
    if (writing && isWritable(disk)) await disk.write(at * unit, bytes)
    else await disk.read(at * unit, bytes)
  }
}
// What the first rounds compile and the first look at the tables load is not what is measured.
await run(offsets.slice(0, Math.min(2000, offsets.length >> 2)))
const started = performance.now()
await run(offsets)
console.log((performance.now() - started) / 1000)
await disk.close()
