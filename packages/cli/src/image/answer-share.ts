/** A project's answer to an image that is shared with it. */
import { Failure } from '../failure.ts'
import type { ImageCall } from './image-verb.ts'
import { done, findImageId, imagePath } from './images.ts'

/** Sets the status of the caller's project, or another that the caller may speak for. */
export async function answerShare(
  { session }: ImageCall,
  name: string,
  given: string | undefined,
  status: 'accepted' | 'rejected',
): Promise<void> {
  const id = await findImageId(session, name)
  const project = given ?? (await session.projectId())
  if (project === undefined) throw new Failure('it is not known which project answers: say --project PROJECT')
  await done(session, 'PUT', imagePath(id, `/members/${encodeURIComponent(project)}`), { status })
}
