/** Detection and safety: what bytes are, and whether they may be taken from a stranger. */
export { allInspectors } from './all.ts'
export { headBytes as inspectedHeadBytes, type Inspector, type View } from './contract.ts'
export type { Check, CheckName, Finding, FindingKind, Inspection, Verdict } from './finding.ts'
export { inspectSource, StreamInspector } from './inspect.ts'
