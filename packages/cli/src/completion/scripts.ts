/** The scripts that shells load to complete arguments: each asks the command, whose answer is explained at `suggestionLines`. */

/** The text as it stands, but `@{` is the `${` of shells. */
function shell({ raw }: TemplateStringsArray): string {
  return raw.join('').replaceAll('@{', '$' + '{')
}

/** bash 4.4 and newer. What stands before the last `=` or `:` is no part of the word for bash, so it is taken off each answer. */
const bash = shell`# bash completion for moraine; made by: moraine completion bash
_moraine() {
  local answer line word='' piece head files='' open=''
  answer=$("$1" completion line -- "@{COMP_LINE:0:COMP_POINT}" 2> /dev/null) || return
  COMPREPLY=()
  piece=@{COMP_WORDS[COMP_CWORD]}
  case $piece in =|:) piece='' ;; esac
  while IFS= read -r line; do
    case $line in
      =*) word=@{line:1}
          # A word with quotes or blanks is one piece for bash.
          if [ "$piece" = '' ]; then head=$word; elif [[ $word == *"$piece" ]]; then head=@{word%"$piece"}; else head=''; fi ;;
      \**) files=1 ;;
      +*) open=1; line=@{line%%$'\t'*}; line=@{line:1}; COMPREPLY+=("@{line#"$head"}") ;;
      -*) line=@{line%%$'\t'*}; line=@{line:1}; COMPREPLY+=("@{line#"$head"}") ;;
    esac
  done <<< "$answer"
  [ -z "$open" ] || compopt -o nospace
  [ -z "$files" ] || [ @{#COMPREPLY[@]} -gt 0 ] || compopt -o default
}
complete -F _moraine moraine
`

const zsh = shell`#compdef moraine
# zsh completion for moraine; made by: moraine completion zsh
_moraine() {
  local line word help
  local -a done open doneHelp openHelp
  local files=
  for line in "@{(@f)$("@{(Q)words[1]}" completion words -- "@{(@Q)words[2,CURRENT-1]}" "@{(Q)PREFIX}" 2> /dev/null)}"; do
    word=@{line%%$'\t'*}
    help=@{line#*$'\t'}
    case $line in
      -*) done+=("@{word[2,-1]}"); doneHelp+=("@{word[2,-1]}@{help:+  -- $help}") ;;
      +*) open+=("@{word[2,-1]}"); openHelp+=("@{word[2,-1]}@{help:+  -- $help}") ;;
      \**) files=1; help=@{line[2,-1]} ;;
    esac
  done
  (( $#done )) && compadd -l -d doneHelp -a done
  (( $#open )) && compadd -l -S '' -d openHelp -a open
  if [[ -n $files ]]; then
    [[ -n $help ]] && compset -P "@{(b)help}"
    _files
  fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _moraine "$@"
else
  compdef _moraine moraine
fi
`

const fish = shell`# fish completion for moraine; made by: moraine completion fish
function __moraine_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] completion words -- $words[2..-1] "$current" 2> /dev/null)
        switch $line
            case '-*' '+*'
                string sub -s 2 -- $line
            case '\**'
                set -l head (string sub -s 2 -- $line)
                set -l rest (string sub -s (math 1 + (string length -- "$head")) -- "$current")
                for path in (__fish_complete_path "$rest")
                    printf '%s\n' "$head$path"
                end
        end
    end
end
complete -c moraine -f -a '(__moraine_complete)'
`

/** By the shell's name. */
export const scripts: Readonly<Record<'bash' | 'zsh' | 'fish', string>> = { bash, zsh, fish }
