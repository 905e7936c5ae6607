# Completion of cachetrip for fish.

function __cachetrip_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l proposals ($program __complete $words "=$current" 2>/dev/null)
    if set -q proposals[1]
        printf '%s\n' $proposals
    else
        __fish_complete_path "$current"
    end
end

complete -c cachetrip -e
complete -c cachetrip -f -a '(__cachetrip_complete)'
