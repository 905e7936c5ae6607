//go:build !windows

package command

import "os"

// enableEscapes reports whether a terminal understands escape sequences. All
// terminals on these systems do.
func enableEscapes(*os.File) bool { return true }
