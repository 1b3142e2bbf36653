#!/usr/bin/env -S node --disable-warning=ExperimentalWarning
/** The command's entry: signals first, then the cache of compiled code, then the rest. */
import './signals.ts'
import { basename } from 'node:path'
import { keepCompiledCode } from './compile-cache.ts'

keepCompiledCode()
const { runCommand } = await import('./run.ts')
await runCommand(process.env.MORAINE_CALLED_AS ?? basename(process.argv[1] ?? 'moraine'), process.argv.slice(2))
