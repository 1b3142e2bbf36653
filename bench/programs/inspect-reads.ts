/** Inspects images through the built engine: `inspect-reads.ts IMAGE…`. Prints the most bytes that were read of one. */
import { countingSource, inspectSource } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'

let most = 0
for (const image of process.argv.slice(2)) {
  const { source, counts } = countingSource(await openFile(image))
  const { format } = await inspectSource(source)
  if (!image.includes(`.${format}`)) throw new Error(`${image}: taken for ${format}`)
  most = Math.max(most, counts.bytesRead)
  await source.close()
}
console.log(most)
