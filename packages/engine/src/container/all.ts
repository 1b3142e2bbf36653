/** Every kind of container the engine has. What each does is loaded when one is opened. */
import type { ContainerFormat } from './container.ts'
import { ova, ovf } from './ovf/index.ts'
import { tar } from './tar/index.ts'

/** Pass this list, or a part of it, wherever containers are asked for. */
export const allContainers: readonly ContainerFormat[] = [ova, ovf, tar]
