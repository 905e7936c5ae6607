package command

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v3"
)

// The library knows neither -oFILE nor -vofile, and reports an unknown --flag
// as -flag. So the flags are separated before it sees them.

// expand separates bundled short flags and their values: -vofile becomes -v -o
// file. It reports unknown flags and missing values as the user typed them.
func expand(root *cli.Command, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	if len(args[1]) > 1 && args[1][0] == '-' {
		_, err := (&flags{of: root, also: []string{"help", "h", "version", "v"}}).expand(args[1:2])
		return args, err
	}
	for _, c := range root.Commands {
		if c.Name == args[1] {
			rest, err := (&flags{of: c, also: []string{"help", "h"}}).expand(args[2:])
			return append(args[:2:2], rest...), err
		}
	}
	return args, nil
}

// flags are the flags of a command. The library adds some by itself: also.
type flags struct {
	of   *cli.Command
	also []string
}

// find reports whether a flag has the name, and whether it takes a value.
func (f *flags) find(name string) (known, takesValue bool) {
	for _, flag := range f.of.Flags {
		if slices.Contains(flag.Names(), name) {
			_, isBool := flag.(*cli.BoolFlag)
			return true, !isBool
		}
	}
	return slices.Contains(f.also, name), false
}

func (f *flags) expand(args []string) (expanded []string, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return append(expanded, args[i:]...), nil
		case len(arg) < 2 || arg[0] != '-':
			expanded = append(expanded, arg)
			continue
		}
		var last string // the flag that needs the next argument, or ""
		if strings.HasPrefix(arg, "--") {
			name, _, hasValue := strings.Cut(arg[2:], "=")
			known, takesValue := f.find(name)
			if !known || utf8.RuneCountInString(name) < 2 {
				return nil, f.unknown("--"+name, arg)
			}
			if takesValue && !hasValue {
				last = "--" + name
			}
			expanded = append(expanded, arg)
		} else {
			var words []string
			if words, last, err = f.unbundle(arg); err != nil {
				return nil, err
			}
			expanded = append(expanded, words...)
		}
		if last == "" {
			continue
		}
		if i++; i == len(args) {
			return nil, usagef("%s needs a value%s", last, f.help())
		}
		expanded = append(expanded, args[i])
	}
	return expanded, nil
}

// unbundle separates short flags. If the last one needs a value that is not in
// arg, it returns that flag, too.
func (f *flags) unbundle(arg string) (words []string, last string, err error) {
	if long, _, _ := strings.Cut(arg[1:], "="); len(long) > 1 {
		if known, _ := f.find(long); known {
			return nil, "", usagef("unknown flag %s; did you mean --%s?%s", arg, long, f.help())
		}
	}
	for rest := arg[1:]; rest != ""; {
		_, size := utf8.DecodeRuneInString(rest)
		name := rest[:size]
		rest = rest[size:]
		known, takesValue := f.find(name)
		if !known {
			return nil, "", f.unknown("-"+name, arg)
		}
		words = append(words, "-"+name)
		switch {
		case takesValue && rest == "":
			return words, "-" + name, nil
		case takesValue:
			return append(words, strings.TrimPrefix(rest, "=")), "", nil
		}
	}
	return words, "", nil
}

// unknown returns the error for a flag that the command does not have.
func (f *flags) unknown(name, arg string) error {
	where := ""
	if !strings.HasPrefix(arg, "--") && len(arg) > len(name) {
		where = " in " + arg
	}
	if name == "--" && strings.HasSuffix(arg, "O-") { // as in wget -qO-
		return usagef("in %s, -O takes no name; use -o -", arg)
	}
	if advice := habit(name); advice != "" && f.of.Name == "get" {
		return usagef("get has no %s%s; %s", name, where, advice)
	}
	for _, flag := range f.of.Flags {
		for _, other := range flag.Names() {
			if len(other) > 1 && strings.HasPrefix(name, "--") && mayMean(name[2:], other) {
				return usagef("unknown flag %s; did you mean --%s?%s", name, other, f.help())
			}
		}
	}
	return usagef("unknown flag %s%s%s", name, where, f.help())
}

// help tells where the flags are listed.
func (f *flags) help() string {
	name := f.of.Name
	if name != "cachetrip" {
		name = "cachetrip " + name
	}
	return "\nRun '" + name + " --help' for its options."
}
