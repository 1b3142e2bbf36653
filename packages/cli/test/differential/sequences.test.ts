/** Scripts of several steps that change images, through qemu-img and through ours. */
import { expect, it } from 'vitest'
import { describeWith } from '../../../engine/test/support/process.ts'
import { isDrawn } from '../../../engine/test/support/random.ts'
import { play } from './play.ts'

/** Each differed once. */
const fixed: Readonly<Record<string, readonly string[]>> = {
  'no snapshot is applied over bitmaps': [
    'create -q -f qcow2 bits.qcow2 1M',
    'snapshot -c x bits.qcow2',
    'bitmap --add bits.qcow2 b0',
    'snapshot -a x bits.qcow2',
    'snapshot -a nope bits.qcow2',
  ],
  'counts of 16 bits and version 2 in one step': [
    'create -q -f qcow2 -o refcount_bits=64 q.qcow2 1M',
    '[q.qcow2] write -P 1 0 100k; write -z 256k 64k',
    'amend -o compat=0.10,refcount_bits=16 q.qcow2',
    'info q.qcow2',
    'check q.qcow2',
  ],
  'tables of snapshots are given back to the host': [
    'create -q -f qcow2 q.qcow2 1M',
    'snapshot -c x q.qcow2',
    'snapshot -c y q.qcow2',
    'snapshot -d x q.qcow2',
    'snapshot -d y q.qcow2',
  ],
  'space is reserved from the cluster on in which the old size ends': [
    'create -q -f qcow2 q.qcow2 736k',
    'resize --preallocation=full q.qcow2 1064k',
    'map --output=json q.qcow2',
    'create -q -f qcow2 r.qcow2 736k',
    'resize --preallocation=falloc r.qcow2 750k',
    'create -q -f qcow2 -b q.qcow2 -F qcow2 over.qcow2 100k',
    'resize --preallocation=full over.qcow2 300k',
    'create -q -f qcow2 -o extended_l2=on -b q.qcow2 -F qcow2 ext.qcow2 100k',
    'resize --preallocation=falloc ext.qcow2 300k',
  ],
  'laying out what a disk gains keeps what the backing file shows before it': [
    'create -q -f qcow2 q.qcow2 736k',
    '[q.qcow2] write -P 1 0 736k',
    'create -q -f qcow2 -b q.qcow2 -F qcow2 over.qcow2 100k',
    'resize --preallocation=metadata over.qcow2 320k',
    'map --output=json over.qcow2',
    'create -q -f qcow2 -o data_file=d.data -b q.qcow2 -F qcow2 outside.qcow2 100k',
    'resize --preallocation=metadata outside.qcow2 320k',
    'map --output=json outside.qcow2',
    'create -q -f qcow2 -o compat=0.10 -b q.qcow2 -F qcow2 old.qcow2 100k',
    'resize --preallocation=full old.qcow2 320k',
  ],
  'a backing file is not covered before the disk grows': [
    'create -q -f qcow2 q.qcow2 3M',
    'create -q -f qcow2 -o cluster_size=1M -b q.qcow2 -F qcow2 over.qcow2',
    'resize --shrink over.qcow2 168k',
    'check over.qcow2',
  ],
  'growing over a backing file stores zeros up to the next cluster': [
    'create -q -f qcow2 q.qcow2 1M',
    'create -q -f qcow2 -b q.qcow2 -F qcow2 over.qcow2 584k',
    '[over.qcow2] write -z -u 448k 136k',
    'resize over.qcow2 1408k',
  ],
  'a base that cannot grow': [
    'create -q -f vdi d.vdi 1M',
    'create -q -f qcow2 -b d.vdi -F vdi top.qcow2 2M',
    'commit top.qcow2',
  ],
  'new counts are not laid over a table that was cut off': [
    'create -q -f qcow2 -o cluster_size=1024 q.qcow2 3M',
    '[q.qcow2] write -P 82 1111k 1k',
    '{q.qcow2} 1024 0000000000000000',
    '{q.qcow2} cut 4096',
    'check -r all q.qcow2',
    'check q.qcow2',
  ],
  'a block of counts where no file ends': [
    'create -q -f qcow2 q.qcow2 1M',
    '{q.qcow2} 65536 80',
    'check -r all q.qcow2',
  ],
  'commit copies whole clusters of the base, zeros too': [
    'create -q -f qcow2 q.qcow2 1M',
    'create -q -f qcow2 -o cluster_size=4096 -b q.qcow2 -F qcow2 top.qcow2',
    '[top.qcow2] write -z 840k 8k',
    'commit top.qcow2',
    'create -q -f qed d.qed 1000k',
    'create -q -f qcow2 -o cluster_size=512 -b d.qed -F qed top2.qcow2 3M',
    '[top2.qcow2] write -z -u 1442k 1k; write -z 2M 512k',
    'commit top2.qcow2',
  ],
  'an emptied overlay ends with a cluster': [
    'create -q -f qcow2 q.qcow2 1M',
    'create -q -f qcow2 -o cluster_size=1024 -b q.qcow2 -F qcow2 over.qcow2',
    'commit over.qcow2',
    'check over.qcow2',
  ],
  'a base of Parallels': [
    'create -q -f parallels p.parallels 1M',
    'create -q -f qcow2 -b p.parallels -F parallels top.qcow2',
    '[top.qcow2] write -P 1 0 64k',
    'commit top.qcow2',
  ],
}

describeWith(['qemu-img', 'qemu-io'], 'scripts of several steps', () => {
  for (const [title, script] of Object.entries(fixed)) {
    it.runIf(isDrawn(title))(title, async () => expect(await play(script)).toBeUndefined(), 60_000)
  }
})
