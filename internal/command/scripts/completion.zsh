#compdef cachetrip
# Completion of cachetrip for zsh.

_cachetrip() {
    local line word
    local -a lines hosts others
    lines=("${(@f)$("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT-1]}" "=$PREFIX" 2>/dev/null)}")
    for line in $lines; do
        word=${line%%$'\t'*}
        if [[ $word == */ ]]; then
            hosts+=("${word//:/\\:}")
        elif [[ $line == *$'\t'* ]]; then
            others+=("${word//:/\\:}:${line#*$'\t'}")
        else
            others+=("${word//:/\\:}")
        fi
    done
    if (( ! $#hosts && ! $#others )); then
        _files
        return
    fi
    (( $#hosts )) && _describe 'host' hosts -S ''
    (( $#others )) && _describe 'value' others
}

if [[ ${funcstack[1]} == _cachetrip ]]; then
    _cachetrip
else
    compdef _cachetrip cachetrip
fi
