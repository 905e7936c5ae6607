//go:build !windows

package store

import "os"

// moveNew gives the file at temp the name path, unless there is a file of that
// name. The caller removes temp afterwards.
func moveNew(temp, path string) error { return os.Link(temp, path) }
