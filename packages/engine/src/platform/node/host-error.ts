/** Turns what the operating system says into the engine's one error, in the words of strerror(3) that QEMU prints too. */
import { type ErrorKind, type ErrorPlace, MoraineError } from '../../core/index.ts'

const words: Record<string, string> = {
  E2BIG: 'Argument list too long',
  EACCES: 'Permission denied',
  EAGAIN: 'Resource temporarily unavailable',
  EBADF: 'Bad file descriptor',
  EBUSY: 'Device or resource busy',
  EDQUOT: 'Disk quota exceeded',
  EEXIST: 'File exists',
  EFBIG: 'File too large',
  EINTR: 'Interrupted system call',
  EINVAL: 'Invalid argument',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  EKEYEXPIRED: 'Key has expired',
  EKEYREJECTED: 'Key was rejected by service',
  EKEYREVOKED: 'Key has been revoked',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENFILE: 'Too many open files in system',
  ENODEV: 'No such device',
  ENOENT: 'No such file or directory',
  ENOKEY: 'Required key not available',
  ENOLCK: 'No locks available',
  ENOMEDIUM: 'No medium found',
  ENOMEM: 'Cannot allocate memory',
  ENOSPC: 'No space left on device',
  ENOSYS: 'Function not implemented',
  ENOTDIR: 'Not a directory',
  ENOTSUP: 'Operation not supported',
  ENXIO: 'No such device or address',
  EOPNOTSUPP: 'Operation not supported',
  EPERM: 'Operation not permitted',
  EREMOTEIO: 'Remote I/O error',
  EROFS: 'Read-only file system',
  ESPIPE: 'Illegal seek',
  ESTALE: 'Stale file handle',
  ETIMEDOUT: 'Connection timed out',
  ETXTBSY: 'Text file busy',
  EXDEV: 'Invalid cross-device link',
}

/** The words of strerror(3) for a code as in `ENOSPC`; the code itself when it is not known. */
export function strerror(code: string): string {
  return words[code] ?? code
}

/** The operating system's code in an error of Node, `EIO` when it has none. */
export function codeOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  // A length that the runtime does not pass on at all.
  if (code === 'ERR_OUT_OF_RANGE') return 'EFBIG'
  return typeof code === 'string' ? code : 'EIO'
}

/** An error of reading or writing: always kind `io`. `doing` stands before the words when given. */
export function hostError(code: string, place: ErrorPlace, doing?: string): MoraineError {
  return new MoraineError('io', doing === undefined ? strerror(code) : `${doing}: ${strerror(code)}`, {
    ...place,
    code,
  })
}

/** An error of opening: `missing`, `denied` or `io`, in QEMU's words. */
export function openError(path: string, error: unknown, verb: 'open' | 'create' = 'open'): MoraineError {
  const code = codeOf(error)
  const text = code in words ? strerror(code) : error instanceof Error ? error.message : String(error)
  let kind: ErrorKind = 'io'
  if (code === 'ENOENT' || code === 'ENOTDIR') kind = 'missing'
  else if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'EEXIST') kind = 'denied'
  else if (code === 'EISDIR') kind = 'invalid'
  return new MoraineError(kind, `Could not ${verb} '${path}': ${text}`, { path, code, cause: error })
}
