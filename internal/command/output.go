package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// output is the destination of a body: a stream, or a file. The file is
// replaced as a whole by commit, so that it never exists half written.
type output struct {
	io.Writer
	file      *os.File     // nil for standard output
	temporary string       // the temporary file's path until commit; empty if the file is written in place
	lock      *flock.Flock // of the temporary file; nil if there is none
	final     string       // the path after commit
}

// createOutput returns the output for path. An empty path or "-" means stdout.
// A path that is not a regular file, such as a device or a pipe, is written in
// place.
func createOutput(path string, stdout io.Writer) (*output, error) {
	if path == "" || path == "-" {
		return &output{Writer: stdout}, nil
	}
	final, mode := path, fs.FileMode(0o666)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, usagef("%s is a directory, not a file to write to", path)
	case !info.Mode().IsRegular():
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return &output{Writer: file, file: file}, nil
	default:
		mode = info.Mode().Perm()
		if final, err = filepath.EvalSymlinks(path); err != nil { // replace the file, not the link to it
			return nil, err
		}
	}
	o := &output{final: final}
	if err := o.createTemporary(mode); err != nil {
		if named, ok := errors.AsType[*fs.PathError](err); ok {
			err = named.Err // users do not know the name of the temporary file
		}
		return nil, fmt.Errorf("cannot write a file in %s: %w; name another place with -o or --output-dir", filepath.Dir(final), err)
	}
	return o, nil
}

// commit makes the written bytes the content of the file.
func (o *output) commit() error {
	if o.file == nil {
		return nil
	}
	if o.temporary == "" {
		return o.file.Close()
	}
	// Without Sync, a power cut after the rename could leave an empty file.
	if err := errors.Join(o.file.Sync(), o.file.Close()); err != nil {
		return err
	}
	if err := os.Rename(o.temporary, o.final); err != nil {
		return err
	}
	o.temporary = ""
	o.unlock()
	return nil
}

func (o *output) unlock() {
	if o.lock != nil {
		o.lock.Close()
	}
}

// reset removes what was written to a file, for another attempt.
func (o *output) reset() error {
	if o.temporary == "" {
		return nil
	}
	if _, err := o.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return o.file.Truncate(0)
}

// discard removes an output that was not committed. An existing file stays as
// it was.
func (o *output) discard() {
	if o.file == nil {
		return
	}
	o.file.Close()
	if o.temporary != "" {
		os.Remove(o.temporary)
	}
	o.unlock()
}
