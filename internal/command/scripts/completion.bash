# Completion of cachetrip for bash.

_cachetrip() {
    local words=() current= line
    # COMP_WORDS has URLs in pieces, because it is divided at : and =.
    line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<< "$line"
    if [[ $line == *[![:space:]] ]]; then
        current=${words[${#words[@]}-1]}
        unset "words[${#words[@]}-1]"
    fi
    # bash replaces only what comes after the last of these.
    local kept=${current%"${current##*[:=]}"} proposal
    [[ $COMP_WORDBREAKS == *:* ]] || kept=
    COMPREPLY=()
    while IFS= read -r line; do
        proposal=${line%%$'\t'*}
        proposal=${proposal#"$kept"}
        # Only a list of proposals has descriptions.
        if [[ $COMP_TYPE == 63 && $line == *$'\t'* ]]; then
            proposal="$proposal  (${line#*$'\t'})"
        fi
        COMPREPLY+=("$proposal")
    done < <("${words[0]}" __complete "${words[@]:1}" "=$current" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 ]]; then
        COMPREPLY=("${COMPREPLY[0]%%  (*}")
        if [[ ${COMPREPLY[0]} == */ ]]; then
            compopt -o nospace 2>/dev/null
        fi
    fi
}

complete -o bashdefault -o default -F _cachetrip cachetrip
