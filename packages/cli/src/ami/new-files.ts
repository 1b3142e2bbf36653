/** Several new files that get their names together, or are all removed, also when the command is stopped. */
import { existsSync } from 'node:fs'
import { MoraineError } from '@moraine/engine'
import { type NewFile, newFile } from '@moraine/engine/node'

/** The files of one command. */
export class NewFiles {
  readonly #files: NewFile[] = []
  readonly #onExit = () => {
    for (const file of this.#files) file.abandonNow()
  }

  constructor() {
    process.once('exit', this.#onExit)
  }

  /** Begins a file that must not be there yet.
   *  @throws MoraineError `denied` when it is; `io`. */
  async create(path: string): Promise<NewFile> {
    if (existsSync(path)) throw new MoraineError('denied', 'it is there already', { path, rule: 'a new file' })
    return await this.begin(path)
  }

  /** Begins a file; one that is there is overwritten.
   *  @throws MoraineError `io`. */
  async begin(path: string): Promise<NewFile> {
    const file = await newFile(path)
    this.#files.push(file)
    return file
  }

  /** The command is through with them. */
  end(): void {
    process.removeListener('exit', this.#onExit)
  }
}
