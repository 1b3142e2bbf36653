/** The engine's face for Node: files and devices of the host, the allowing gate, image locks, Node's codecs and workers. */
export * from './platform/node/index.ts'
