//go:build !windows

package command

import "os"

// enableEscapes reports whether a terminal understands escape sequences: all do.
func enableEscapes(*os.File) bool { return true }
