package store

import (
	"os"

	"golang.org/x/sys/windows"
)

// moveNew gives the file at temp the name path, unless there is a file of that
// name. A hard link would not do: its other name could not be removed while
// anybody has the file open.
func moveNew(temp, path string) error {
	from, err := windows.UTF16PtrFromString(temp)
	if err != nil {
		return err
	}
	to, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	if err := windows.MoveFile(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: temp, New: path, Err: err}
	}
	return nil
}
