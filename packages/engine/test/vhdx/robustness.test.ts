/** VHDX under power cuts and faults. */
import { testFaults, testPowerCuts } from '../support/block-robustness.ts'
import { subject } from './subject.ts'

testPowerCuts(subject)
testFaults(subject)
