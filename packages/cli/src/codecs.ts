import type { Codecs } from '@moraine/engine'
import * as host from '@moraine/engine/node'

export const nodeCodecs: Codecs = (host as { nodeCodecs?: Codecs }).nodeCodecs ?? {}
