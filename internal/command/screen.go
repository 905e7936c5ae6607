package command

import (
	"cmp"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// screen is an output with its capabilities.
type screen struct {
	io.Writer
	terminal bool // the output is a terminal
	moves    bool // the cursor can be moved
	colours  bool
	width    int // in columns; 0 if lines have no limit
}

// newScreen examines w. Anything but a terminal gets plain text.
func newScreen(w io.Writer) *screen {
	s := &screen{Writer: w}
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return s
	}
	s.terminal = true
	s.measure(file)
	s.moves = os.Getenv("TERM") != "dumb" && enableEscapes(file)
	s.colours = s.moves && os.Getenv("NO_COLOR") == ""
	return s
}

const (
	bold   = "1"
	faint  = "2"
	green  = "32"
	yellow = "33"
)

// paint returns text in a colour, if the screen shows colours.
func (s *screen) paint(colour, text string) string {
	if !s.colours || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// measure reads the width of the terminal.
func (s *screen) measure(file *os.File) {
	s.width, _, _ = term.GetSize(int(file.Fd()))
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		s.width = columns
	}
	s.width = cmp.Or(s.width, 80)
}

// current returns the screen with the width that it has now.
func (s *screen) current() *screen {
	now := *s
	if file, ok := s.Writer.(*os.File); ok && s.terminal {
		now.measure(file)
	}
	return &now
}

// fit cuts text to n columns, if lines have a limit.
func (s *screen) fit(text string, n int) string {
	if s.width == 0 {
		return text
	}
	used, end := 0, 0 // end is where the text is cut
	for i, r := range text {
		if used < n {
			end = i
		}
		if used += columnsOf(r); used > n {
			return text[:end] + "…"
		}
	}
	return text
}

// columnsOf returns how many columns a character takes: letters of East Asia
// and emoji take two.
func columnsOf(r rune) int {
	switch {
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// middle shortens text to n columns in its middle, if lines have a limit.
func (s *screen) middle(text string, n int) string {
	runes := []rune(text)
	if s.width == 0 || len(runes) <= n {
		return text
	}
	end := (n - 1) / 2
	return string(runes[:n-1-end]) + "…" + string(runes[len(runes)-end:])
}

// wrap breaks text into lines that fit the screen. All lines but the first are
// indented by n columns.
func (s *screen) wrap(text string, n int) string {
	if s.width == 0 {
		return text
	}
	var b strings.Builder
	column := n
	for i, word := range strings.Fields(text) {
		length := len([]rune(word))
		switch {
		case i == 0:
		case column+1+length > s.width:
			b.WriteString("\n" + strings.Repeat(" ", n))
			column = n
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}

// flow breaks lines that do not fit the screen. It rewraps paragraphs, and the
// last column of each table row.
func (s *screen) flow(text string) string {
	if s.width == 0 {
		return text
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	indentOf := func(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
	var b strings.Builder
	for len(lines) > 0 {
		line, indent := lines[0], indentOf(lines[0])
		column := strings.Index(line[indent:], "  ")
		n := 1
		fits := len([]rune(line)) <= s.width
		for column < 0 && n < len(lines) && lines[n] != "" && indentOf(lines[n]) == indent && !strings.Contains(lines[n][indent:], "  ") {
			fits = fits && len([]rune(lines[n])) <= s.width
			n++
		}
		switch whole := strings.Join(lines[:n], "\n"); {
		case fits || strings.HasPrefix(line[indent:], "#"): // commands to be copied stay as they are
			b.WriteString(whole)
		case column < 0:
			b.WriteString(line[:indent] + s.wrap(whole, indent))
		default:
			hang := indent + column + indentOf(line[indent+column:])
			if hang > s.width/2 {
				b.WriteString(line[:indent+column] + "\n")
				line = strings.Repeat(" ", 2*indent) + line[hang:]
				hang = 2 * indent
			}
			b.WriteString(line[:hang] + s.wrap(line[hang:], hang))
		}
		b.WriteByte('\n')
		lines = lines[n:]
	}
	return b.String()
}

// printable replaces characters that could control a terminal, because header
// fields come from anywhere.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
