/** Closing a disk after something was done with it. */

/** Does something with a disk and closes it. Of two errors the first is told: a disk that could not be written as it should often cannot be closed for the same reason. */
export async function closing<Result>(
  disk: { close(): Promise<void> },
  action: () => Promise<Result>,
): Promise<Result> {
  let result: Result
  try {
    result = await action()
  } catch (error) {
    await disk.close().catch(() => {})
    throw error
  }
  await disk.close()
  return result
}
