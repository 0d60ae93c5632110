import type { CommanderError } from 'commander';
import { errorMessage } from '../errors.js';

/** What is wrong with a command line, as one clause: commander's message without its "error:", the option and its value first. */
export function complaint(error: CommanderError): string {
  return errorMessage(error)
    .replace(/^error: /, '')
    .replace(/\.$/, '')
    .replace(/^option '(?:-\w, )?(--[a-z-]+).*?' argument '(.*?)' is invalid\. /s, "$1 '$2': ")
    .replace(/^command-argument value '(.*?)' is invalid for argument '(.*?)'\. /s, "$2 '$1': ")
    .replace(/: Allowed choices are ([^']*)$/, ': expected one of $1');
}
