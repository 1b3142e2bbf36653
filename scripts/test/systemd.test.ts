/** The unit of systemd at work: a systemd of the test's own starts the service, as its user and with all that the unit forbids. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { describeWith, tool } from '../../packages/engine/test/support/process.ts'
import { root } from '../build/workspace.ts'
import { run } from '../support/run.ts'

const program = join(root, 'dist', `moraine-${process.platform}-${process.arch}`)
const inCi = process.env.CI === 'true'
if (inCi && !existsSync(program)) throw new Error('npm run build:binary must run first')
/** Mounts are for root. */
const missing = [
  ...(existsSync(program) ? [] : ['npm run build:binary has not run']),
  ...(inCi || process.getuid?.() === 0 ? [] : ['not root']),
]
const describeAble = (title: string, tests: () => void): void => {
  if (missing.length > 0) describe.skip(`${title} [skipped: ${missing.join(', ')}]`, tests)
  else describeWith(['/lib/systemd/systemd', 'unshare', 'timeout', 'curl', 'setpriv'], title, tests)
}

/** What is done there. Each line that it prints is a name and what was found. */
const probe = `
cd /probe
say() { printf '%s: %s\\n' "$1" "$(printf %s "$2" | tr '\\n' ' ')"; }
property() { systemctl show --property "$1" --value moraine; }
ask() { curl --silent --max-time 10 --retry 20 --retry-delay 1 --retry-connrefused "$@"; }
systemd-sysusers
printf 'auth: local\\n' > /etc/moraine/moraine.yaml
systemctl daemon-reload
say start "$(systemctl start moraine 2>&1; systemctl is-active moraine)"
say ready "$(ask http://127.0.0.1:9292/readyz)"
say user "$(stat --format %U "/proc/$(property MainPID)")"
# As people log in, with the password that only the service's user may read.
password=$(setpriv --reuid=moraine --regid=moraine --clear-groups cat /var/lib/moraine/admin-password)
login='{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "admin", "domain": {"name": "Default"}, "password": "'$password'"}}},
  "scope": {"project": {"name": "admin", "domain": {"name": "Default"}}}}}'
token=$(ask --dump-header - --output /dev/null --header 'content-type: application/json' --data "$login" http://127.0.0.1:9292/identity/v3/auth/tokens | sed -n 's/^x-subject-token: //Ip' | tr -d '\\r')
image=$(ask --header "x-auth-token: $token" --header 'content-type: application/json' --data '{"disk_format": "raw", "container_format": "bare"}' http://127.0.0.1:9292/v2/images | sed 's/.*"id": *"\\([^"]*\\)".*/\\1/')
head -c 3000000 /dev/urandom > /probe/data
say upload "$(ask --output /dev/null --write-out '%{http_code}' --header "x-auth-token: $token" --header 'content-type: application/octet-stream' --upload-file /probe/data "http://127.0.0.1:9292/v2/images/$image/file")"
say reload "$(systemctl reload moraine 2>&1; sleep 0.5; systemctl is-active moraine; property NRestarts)"
kill -KILL "$(property MainPID)"
sleep 3
say again "$(ask http://127.0.0.1:9292/readyz; property NRestarts)"
say download "$(ask --header "x-auth-token: $token" "http://127.0.0.1:9292/v2/images/$image/file" | cmp - /probe/data && echo same)"
say stop "$(systemctl stop moraine 2>&1; property Result; property ExecMainStatus)"
say kept "$(stat --format '%U %a' /var/lib/moraine)"
journalctl --unit moraine --no-pager > /probe/journal 2>&1
systemctl exit 42
`

describeAble('the unit of systemd', () => {
  const folder = mkdtempSync(join(tmpdir(), 'moraine-systemd-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const read = (name: string) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : '')

  test('starts the service, brings it back after a crash, and stops it', { timeout: 90_000 }, async () => {
    writeFileSync(join(folder, 'probe.sh'), probe)
    const apart = ['--fork', '--kill-child', '--pid', '--mount', '--uts', '--ipc', '--cgroup', '--net']
    const script = join(import.meta.dirname, 'support', 'under-systemd.sh')
    const booted = await run(
      tool('timeout').path ?? '',
      ['--signal=KILL', '80', 'unshare', ...apart, script, program, join(root, 'packaging'), folder],
      folder,
    )
    const seen = Object.fromEntries(
      read('output')
        .trimEnd()
        .split('\n')
        .map((line) => line.split(': ').map((part) => part.trim())),
    )
    // What it said is the best help when something fails.
    expect({ ...seen, code: booted.code }, `${booted.stdout}${booted.stderr}${read('journal')}`).toEqual({
      start: 'active',
      ready: 'OK',
      user: 'moraine',
      upload: '204',
      reload: 'active 0',
      again: 'OK1',
      download: 'same',
      stop: 'success 0',
      kept: 'moraine 700',
      code: 42,
    })
    expect(read('journal')).toContain('moraine serves images on http://127.0.0.1:9292')
  })
})
