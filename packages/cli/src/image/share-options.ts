/** What both answers to a shared image take. */

/** The option of both answers. */
export const projectOption = {
  project: {
    long: 'project',
    argument: 'PROJECT',
    help: "The project that answers, by id; the caller's own when not given.",
  },
} as const
