/** `nbd serve`: an image as an export, as qemu-nbd does it. */
import type { Disk } from '@moraine/engine'
import type { NbdServer, ServeNbdOptions } from '@moraine/nbd'
import { Failure, failureFrom } from '../../failure.ts'
import { openForWriting, openImage } from '../../open.ts'
import { sizeText } from '../../output/size.ts'
import { openNamedSnapshot, readSnapshot } from '../../snapshot-name.ts'
import { type Context, defineVerb, type Values } from '../../verb.ts'
import { forceShare, format, oneImage, trust } from '../common.ts'

function wholeNumber(option: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d{1,9}$/.test(text) && value >= least && value <= most) return value
    throw new Failure(`${option} must be used with a whole number from ${least} to ${most}, not '${text}'`)
  }
}

const options = {
  ...trust,
  format,
  socket: { short: 'k', long: 'socket', argument: 'PATH', help: 'Listen on a UNIX socket of this name.' },
  port: {
    short: 'p',
    long: 'port',
    argument: 'PORT',
    help: 'Listen on this TCP port; 0 takes any that is free. Default 10809, where no socket is named.',
    parse: wholeNumber('--port', 0, 65_535),
  },
  bind: {
    short: 'b',
    long: 'bind',
    argument: 'ADDRESS',
    help: 'The address to listen on. Default 127.0.0.1: this machine alone.',
  },
  exportName: {
    short: 'x',
    long: 'export-name',
    argument: 'NAME',
    help: 'Name of the export. Default: the empty one.',
  },
  description: { short: 'D', long: 'description', argument: 'TEXT', help: 'What the export is, for people.' },
  readOnly: { short: 'r', long: 'read-only', help: 'Clients may not write.' },
  persistent: { short: 't', long: 'persistent', help: 'Go on when the last client has left.' },
  shared: {
    short: 'e',
    long: 'shared',
    argument: 'N',
    help: 'So many clients at once; more of them wait. Default 1.',
    parse: wholeNumber('--shared', 1, 1000),
  },
  snapshot: {
    short: 'l',
    long: 'load-snapshot',
    argument: 'SNAPSHOT',
    help: 'Export an internal snapshot, read-only: its id or name.',
    parse: readSnapshot,
  },
  allocationDepth: {
    short: 'A',
    long: 'allocation-depth',
    help: 'Tell clients in which image of the chain content lies (qemu:allocation-depth).',
  },
  bitmap: {
    short: 'B',
    long: 'bitmap',
    argument: 'NAME',
    help: 'Show clients this dirty bitmap (qemu:dirty-bitmap:NAME); only with --read-only. May be given several times.',
    collect: true,
  },
  tlsCertificates: {
    long: 'tls-certificates',
    argument: 'DIR',
    help: 'Speak TLS, and nothing in clear: the folder with server-cert.pem and server-key.pem.',
  },
  tlsVerifyPeer: {
    long: 'tls-verify-peer',
    help: 'Clients need a certificate of the authority in ca-cert.pem of that folder.',
  },
  tls: {
    long: 'tls',
    argument: 'MODE',
    values: () => ['require', 'allow'],
    help: 'require (the default) or allow: clients choose whether to speak TLS.',
    parse(text: string): 'require' | 'allow' {
      if (text === 'require' || text === 'allow') return text
      throw new Failure(`--tls must be used with require or allow, not '${text}'`)
    },
  },
  forceShare,
} as const

export const verb = defineVerb({
  name: 'nbd serve',
  summary: 'Export an image as a network block device',
  operands: 'IMAGE',
  syntax: '',
  about:
    'Serves what an image holds, whatever its format, until the last client has left or, with --persistent, until it is stopped (Ctrl-C, SIGTERM): requests under way are then answered and ' +
    'everything is flushed. QEMU, nbdkit, libnbd and the Linux kernel (nbd-client) can use the export. Whoever reaches the address can read and, unless --read-only, write: use a socket in a folder of your own, or TLS with --tls-verify-peer.',
  examples: [
    ['moraine nbd serve -t disk.qcow2 --socket disk.sock', 'on a UNIX socket, writable'],
    ['moraine nbd serve -r -e 4 disk.vmdk --port 10809', 'on 127.0.0.1, for four readers'],
    [
      'moraine nbd serve -t disk.raw -b 0.0.0.0 --tls-certificates pki --tls-verify-peer',
      'for whoever has a certificate',
    ],
    ["qemu-system-x86_64 -drive 'file=nbd+unix:///?socket=disk.sock,format=raw'", 'a guest on it'],
  ],
  options,
  async run(values, operands, context) {
    const name = oneImage(operands)
    check(values)
    const disk = await open(context, name, values)
    try {
      return await serve(context, name, disk, values)
    } finally {
      await disk.close()
    }
  },
})

type ServeValues = Values<typeof options>

function check({
  socket,
  port,
  bind,
  bitmap,
  snapshot,
  readOnly,
  tlsCertificates,
  tlsVerifyPeer,
  tls,
}: ServeValues): void {
  if (socket !== undefined && (port !== undefined || bind !== undefined)) {
    throw new Failure('--socket cannot be used with --port or --bind')
  }
  if (bitmap.length > 0 && !readOnly && snapshot === undefined) throw new Failure('--bitmap needs --read-only')
  if (tlsCertificates === undefined && (tlsVerifyPeer || tls !== undefined)) {
    throw new Failure('--tls and --tls-verify-peer need --tls-certificates')
  }
}

async function open(context: Context, name: string, values: ServeValues): Promise<Disk> {
  const request = { format: values.format, forceShare: values.forceShare }
  if (!values.readOnly && values.snapshot === undefined) {
    return await openForWriting(context, name, { use: 'write', ...request })
  }
  return await openImage(context, name, { use: 'source', ...request })
}

async function serve(context: Context, name: string, disk: Disk, values: ServeValues): Promise<number> {
  const { serveNbd, readServerCertificates } = await import('@moraine/nbd')
  const exported = values.snapshot === undefined ? disk : await openNamedSnapshot(disk, values.snapshot, context)
  const left = Promise.withResolvers<void>()
  try {
    const tls =
      values.tlsCertificates === undefined
        ? undefined
        : { ...readServerCertificates(values.tlsCertificates, { verifyPeer: values.tlsVerifyPeer }), mode: values.tls }
    const server = await serveNbd(exported, {
      listen: placeOf(values),
      exportName: values.exportName,
      description: values.description,
      readOnly: values.readOnly || undefined,
      clients: values.shared ?? 1,
      allocationDepth: values.allocationDepth,
      bitmaps: values.bitmap,
      tls,
      warn: (message) => context.warn(message),
      onClients(count, event) {
        if (count === 0 && event === 'left' && !values.persistent) left.resolve()
      },
    })
    greet(context, name, exported, server)
    await Promise.race([left.promise, stopped(context.signal)])
    await server.close()
    return 0
  } catch (error) {
    throw failureFrom(error, context.persona)
  }
}

function placeOf({ socket, port, bind }: ServeValues): ServeNbdOptions['listen'] {
  return socket === undefined ? { host: bind ?? '127.0.0.1', port: port ?? 10_809 } : { path: socket }
}

function greet(context: Context, name: string, disk: Disk, server: NbdServer): void {
  const how = server.writable ? 'writable' : 'read-only'
  context.out.write(`moraine serves ${name} (${disk.format}, ${sizeText(disk.size)}, ${how}) as ${server.uri}\n`)
  context.out.flush()
}

/** A signal asks for the end: that is how it ends well. */
function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
