/** Everything that the image service does, as commands of the stock clients: who gives them, and what they say then. */
import { randomUUID } from 'node:crypto'

/** One command of a client. */
export interface ClientStep {
  /** Whose environment it runs in. */
  as: 'admin' | 'ann' | 'ben'
  arguments: string[]
  /** What its output must have; with `fails`, what its error must have. */
  says: string[]
  /** Words that must not be in its output. */
  omits?: string[]
  fails?: boolean
  /** Seconds for which it is repeated until it says so: tasks take their time. */
  within?: number
}

/** Where things are that commands name. */
export interface Places {
  /** A file of image data, where downloads go, and a JSON file of a namespace. */
  data: string
  back: string
  namespaceFile: string
  /** A web server's address of the same data. */
  web: string
  /** The project of ben, who is not in ann's. */
  benProject: string
}

const step = (as: ClientStep['as'], line: string, ...says: string[]): ClientStep => ({
  as,
  arguments: words(line),
  says,
})
const refused = (as: ClientStep['as'], line: string, ...says: string[]): ClientStep => ({
  ...step(as, line, ...says),
  fails: true,
})
const soon = (as: ClientStep['as'], line: string, ...says: string[]): ClientStep => ({
  ...step(as, line, ...says),
  within: 30,
})
const without = (step: ClientStep, ...omits: string[]): ClientStep => ({ ...step, omits })

/** Words of a line; what stands in single quotes is one. */
function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')
}

const raw = '--disk-format raw --container-format bare'

/** What `glance` is told, by what it is about. Each part stands for itself. */
export function glanceTour({ data, back, namespaceFile, web, benProject }: Places): Record<string, ClientStep[]> {
  const [a, b, d, e] = Array.from({ length: 4 }, () => randomUUID()) as [string, string, string, string]
  const made = (id: string, more = '') => step('ann', `image-create --id ${id} --name n-${id} ${raw} ${more}`, id)
  const loaded = (id: string) => made(id, `--file ${data}`)
  const activeSoon = (id: string, ...more: string[]) => soon('ann', `image-show ${id}`, '| active', ...more)
  return {
    images: [
      step(
        'ann',
        `image-create --id ${a} --name tour ${raw} --file ${data} --property os_distro=debian --tags one`,
        '| active',
        'debian',
      ),
      step('ann', 'image-list --property-filter os_distro=debian', a, 'tour'),
      without(step('ben', 'image-list'), a),
      refused('ben', `image-show ${a}`, '404'),
      step(
        'ann',
        `image-update ${a} --name later --property hw_disk_bus=scsi --remove-property os_distro`,
        'later',
        'scsi',
      ),
      step('ann', `image-tag-update ${a} blue`),
      step('ann', `image-show ${a}`, 'blue', 'one'),
      step('ann', `image-tag-delete ${a} blue`),
      without(step('ann', `image-show ${a}`, 'one'), 'blue'),
      step('ann', `image-update ${a} --hidden True`),
      without(step('ann', 'image-list'), a),
      step('ann', 'image-list --hidden True', a),
      step('ann', `image-update ${a} --hidden False --visibility community`, 'community'),
      step('ben', 'image-list --visibility community', a),
      step('ann', `image-download --file ${back} ${a}`),
      step('admin', `image-deactivate ${a}`),
      refused('ann', `image-download --file ${back} ${a}`, '403'),
      step('admin', `image-reactivate ${a}`),
      step('ann', `image-update ${a} --protected True`),
      refused('ann', `image-delete ${a}`, 'not permitted'),
      step('ann', `image-update ${a} --protected False`),
      step('ann', `image-create --id ${b} ${raw}`, '| queued'),
      step('ann', `image-upload --file ${data} ${b}`),
      activeSoon(b),
      refused('ann', `image-upload --file ${data} ${b}`, '409'),
      step('ann', 'explain image', 'os_hash_algo', 'stores'),
      step('ann', `image-delete ${a} ${b}`),
      refused('ann', `image-show ${a}`, '404'),
    ],
    members: [
      loaded(a),
      step('ann', `member-create ${a} ${benProject}`, benProject, 'pending'),
      without(step('ben', 'image-list'), a),
      step('ben', 'image-list --member-status pending --visibility shared', a),
      step('ben', `member-update ${a} ${benProject} accepted`, 'accepted'),
      step('ben', 'image-list', a),
      step('ann', `member-list --image-id ${a}`, benProject, 'accepted'),
      step('ann', `member-get ${a} ${benProject}`, 'accepted'),
      refused('ann', `member-update ${a} ${benProject} rejected`, '403'),
      step('ann', `member-delete ${a} ${benProject}`),
      refused('ben', `image-show ${a}`, '404'),
    ],
    imports: [
      step('ann', 'import-info', 'web-download', 'copy-image', 'glance-download'),
      made(a),
      step('ann', `image-stage --file ${data} ${a}`),
      step('ann', `image-show ${a}`, '| uploading'),
      step('ann', `image-import --import-method glance-direct --stores two ${a}`),
      activeSoon(a, '| two'),
      made(b),
      step('ann', `image-import --import-method web-download --uri ${web} ${b}`),
      activeSoon(b, '| one'),
      step('ann', `image-tasks ${b}`, 'success'),
      // `glance-download` cannot be asked for by Debian's clients: `glance` looks for its own options under another name, the SDK has none.
      step('admin', `image-import --import-method copy-image --stores two ${b}`),
      soon('ann', `image-show ${b}`, 'one,two'),
      step(
        'ann',
        `image-create-via-import --id ${d} ${raw} --import-method web-download --uri ${web} --all-stores True`,
        d,
      ),
      soon('ann', `image-show ${d}`, '| active', 'one,two'),
      made(e),
      step('ann', `image-import --import-method web-download --uri http://127.0.0.1:9/nothing ${e}`),
      soon('ann', `image-tasks ${e}`, 'failure'),
      step('admin', 'task-list', 'api_image_import', 'success', 'failure'),
    ],
    stores: [
      step('ann', 'stores-info', 'First', '"one"'),
      step('admin', 'stores-info --detail', 'First', 'file'),
      refused('ann', 'stores-info --detail', '403'),
      made(a, `--file ${data} --store two`),
      step('ann', `image-show ${a}`, '| two'),
      step('admin', `image-import --import-method copy-image --all-stores True ${a}`),
      soon('ann', `image-show ${a}`, 'two', 'one'),
      step('admin', `stores-delete --store two ${a}`),
      without(step('ann', `image-show ${a}`, '| one'), 'two'),
      refused('admin', `stores-delete --store one ${a}`, '403'),
      step('ann', 'usage', 'image_size_total', 'image_count_total', '1000'),
    ],
    cache: [
      loaded(a),
      loaded(b),
      step('admin', `cache-queue ${a}`),
      soon('admin', 'cache-list', a, 'cached'),
      refused('ann', 'cache-list', '403'),
      step('admin', `cache-delete ${a}`),
      without(step('admin', 'cache-list'), a),
      step('admin', `cache-queue ${a} ${b}`),
      soon('admin', 'cache-list', a, b),
      step('admin', 'cache-clear'),
      without(step('admin', 'cache-list'), a, b),
    ],
    locations: [
      made(a),
      step('admin', `location-add --url ${web} ${a}`, web),
      step('ann', `image-show ${a}`, '| active'),
      step('ann', `image-download --file ${back} ${a}`),
      step('admin', `location-add --url ${web}?other ${a}`),
      step('admin', `location-update --url ${web}?other --metadata '{"note":"second"}' ${a}`, 'second'),
      step('admin', `location-delete --url ${web}?other ${a}`),
      without(step('ann', `image-show ${a}`, web), '?other'),
    ],
    'metadata definitions': [
      step(
        'admin',
        "md-namespace-create Tour::N --visibility public --display-name Tour --description 'of it'",
        'Tour::N',
      ),
      step('ann', 'md-namespace-list', 'Tour::N', 'Moraine::Guest'),
      step('admin', 'md-namespace-update Tour::N --display-name Later', 'Later'),
      step(
        'admin',
        `md-property-create Tour::N --name size --title Size --schema '{"type":"integer","minimum":0}'`,
        'Size',
      ),
      step('ann', 'md-property-list Tour::N', 'size'),
      step(
        'admin',
        `md-property-update Tour::N size --name size --title Larger --schema '{"type":"integer"}'`,
        'Larger',
      ),
      step('ann', 'md-property-show Tour::N size', 'Larger'),
      step(
        'admin',
        `md-object-create Tour::N --name thing --schema '{"description":"one","properties":{"a":{"title":"A","type":"string"}}}'`,
        'thing',
      ),
      step('ann', 'md-object-list Tour::N', 'thing'),
      step(
        'admin',
        `md-object-update Tour::N thing --name thing --schema '{"description":"two","properties":{"a":{"title":"A","type":"string"}}}'`,
      ),
      step('ann', 'md-object-show Tour::N thing', 'two'),
      step('ann', 'md-object-property-show Tour::N thing a', 'string'),
      step('admin', 'md-tag-create Tour::N --name first', 'first'),
      step('admin', 'md-tag-create-multiple Tour::N --names first,second,third', 'second'),
      step('admin', 'md-tag-update Tour::N first --name other', 'other'),
      step('ann', 'md-tag-list Tour::N', 'other', 'second', 'third'),
      step('ann', 'md-tag-show Tour::N second', 'second'),
      step('admin', 'md-tag-delete Tour::N second'),
      step('admin', 'md-resource-type-associate Tour::N --name OS::Tour --prefix tour_', 'OS::Tour'),
      step('ann', 'md-resource-type-list', 'OS::Tour'),
      step('ann', 'md-namespace-resource-type-list Tour::N', 'OS::Tour'),
      step('ann', 'md-namespace-show Tour::N --resource-type OS::Tour', 'tour_size'),
      refused('ann', 'md-namespace-delete Tour::N', '403'),
      step('admin', 'md-resource-type-deassociate Tour::N OS::Tour'),
      step('admin', 'md-object-delete Tour::N thing'),
      step('admin', 'md-property-delete Tour::N size'),
      ...['objects', 'properties', 'tags'].map((kind) => step('admin', `md-namespace-${kind}-delete Tour::N`)),
      step('admin', 'md-namespace-delete Tour::N'),
      step('admin', `md-namespace-import --file ${namespaceFile}`, 'Tour::File'),
      step('admin', 'md-namespace-delete Tour::File'),
    ],
  }
}

/** Runs steps of `glance` in one process, as it would run alone, but for starting anew each time. Arguments: a JSON file of steps, and one of environments. */
export const glanceProgram = `
import contextlib, io, json, os, pty, sys, time
steps, environments = (json.load(open(path)) for path in sys.argv[1:3])
# What it can read from its standard input it takes for image data, unless it is a terminal.
os.dup2(pty.openpty()[1], 0)
sys.stdin = open(0)
from glanceclient import shell

def once(step):
    for name in list(os.environ):
        if name.startswith('OS_'):
            del os.environ[name]
    os.environ.update(environments[step['as']])
    out, error = io.StringIO(), ''
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            shell.OpenStackImagesShell().main(step['arguments'])
        except SystemExit as stop:
            error = '' if stop.code in (None, 0) else 'exit %s' % stop.code
        except BaseException as thrown:
            error = '%s: %s' % (type(thrown).__name__, thrown)
    return out.getvalue(), error

def wrong(step, said, error):
    if bool(error) != step.get('fails', False):
        return True
    text = said + error
    return any(part not in text for part in step['says']) or any(part in said for part in step.get('omits', []))

for step in steps:
    end = time.time() + step.get('within', 0)
    said, error = once(step)
    while wrong(step, said, error) and time.time() < end:
        time.sleep(0.1)
        said, error = once(step)
    if wrong(step, said, error):
        sys.exit('%s: glance %s\\n%s\\n%s\\nexpected: %s' % (step['as'], ' '.join(step['arguments']), said, error, step))
print('%d steps' % len(steps))
`

/** The same of openstacksdk: a program of somebody who uses it. Arguments: a file of data, and the address of the same data on the web. The environment says who it is, and \`BEN\` which project is not theirs. */
export const sdkProgram = `
import hashlib, os, sys, time, openstack
path, web = sys.argv[1:3]
data = open(path, 'rb').read()
connection = openstack.connect()
image = connection.image
facts = dict(disk_format='raw', container_format='bare')

def wait(found, status='active'):
    for _ in range(300):
        found = image.get_image(found.id)
        if found.status == status:
            return found
        time.sleep(0.1)
    raise SystemExit('%s stays %s' % (found.id, found.status))

def check(what, ok):
    if not ok:
        raise SystemExit('not so: ' + what)

made = image.create_image('sdk', filename=path, wait=True, visibility='shared', tags=['one'], os_distro='debian', **facts)
made = image.find_image('sdk')
check('checksum', made.checksum == hashlib.md5(data).hexdigest())
check('hash', made.hash_value == hashlib.sha512(data).hexdigest())
check('property', made.os_distro == 'debian' or made.properties.get('os_distro') == 'debian')
check('download', image.download_image(made).content == data)
check('list', made.id in [one.id for one in image.images(name='sdk')])
image.update_image(made, name='sdk later', min_disk=1)
check('update', image.get_image(made.id).min_disk == 1)
image.add_tag(made, 'blue')
check('tags', sorted(image.get_image(made.id).tags) == ['blue', 'one'])
image.remove_tag(made, 'blue')
project = os.environ['BEN']
image.add_member(made, member_id=project)
check('member', [(one.member_id, one.status) for one in image.members(made)] == [(project, 'pending')])
check('found member', image.find_member(project, made).status == 'pending')
image.remove_member(project, made)

staged = image.create_image('sdk staged', allow_duplicates=True, **facts)
image.stage_image(staged, filename=path)
image.import_image(image.get_image(staged.id), method='glance-direct')
check('staged', wait(staged).size == len(data))
fetched = image.create_image('sdk fetched', allow_duplicates=True, **facts)
image.import_image(fetched, method='web-download', uri=web)
check('fetched', wait(fetched).size == len(data))
check('stores', [one.id for one in image.stores()][:2] == ['one', 'two'])
for schema in (image.get_image_schema, image.get_images_schema, image.get_member_schema, image.get_members_schema, image.get_task_schema, image.get_tasks_schema):
    check('schema', schema().properties)
for one in (made, staged, fetched):
    image.delete_image(one.id)
    check('delete', image.find_image(one.id) is None)
print('ok')
`
