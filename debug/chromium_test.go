package debug_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// chromium is a browser without a window, with one tab. It is driven by the
// Chrome DevTools Protocol, whose messages go through two pipes.
type chromium struct {
	t       *testing.T
	in      *os.File
	out     *os.File
	read    *bufio.Reader // reads out
	session string
	last    int
}

// hanging is the time after which a browser that does not answer hangs. On a busy
// machine it may take a while.
const hanging = 3 * time.Minute

// startChromium starts a browser. It skips the test if there is none.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium; 'apt-get install chromium' installs it")
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	c := &chromium{t: t, in: in, out: out, read: bufio.NewReader(out)}
	t.Cleanup(func() {
		// The browser ends when its pipe is closed. If it is killed, its children
		// go on writing into the directory, which then cannot be removed.
		in.Close()
		kill := time.AfterFunc(hanging, func() { cmd.Process.Kill() })
		cmd.Wait()
		kill.Stop()
		out.Close()
	})
	var target struct{ TargetID string }
	c.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	c.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	c.session = session.SessionID
	c.call("Page.enable", nil, nil)
	return c
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

func (c *chromium) receive() message {
	c.t.Helper()
	c.out.SetReadDeadline(time.Now().Add(hanging))
	b, err := c.read.ReadBytes(0)
	if err != nil {
		c.t.Fatalf("Chromium does not answer: %v", err)
	}
	var m message
	if err := json.Unmarshal(b[:len(b)-1], &m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// call calls a method of the protocol and decodes its result.
func (c *chromium) call(method string, params, result any) {
	c.t.Helper()
	c.last++
	b, err := json.Marshal(message{ID: c.last, Method: method, SessionID: c.session, Params: params})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(b, 0)); err != nil {
		c.t.Fatal(err)
	}
	for {
		m := c.receive()
		if m.ID != c.last {
			continue
		}
		if m.Error != nil {
			c.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				c.t.Fatal(err)
			}
		}
		return
	}
}

// open shows a page in a window of the given size.
func (c *chromium) open(url string, width, height int) {
	c.t.Helper()
	c.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 720}, nil)
	c.call("Page.navigate", map[string]any{"url": url}, nil)
	for c.receive().Method != "Page.loadEventFired" {
	}
}

// prefer shows the page in light or dark colours.
func (c *chromium) prefer(scheme string) {
	c.t.Helper()
	c.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// eval returns the value of a JavaScript expression. It waits for a promise.
func (c *chromium) eval(expression string, result any) {
	c.t.Helper()
	var answer struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	c.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if e := answer.ExceptionDetails; e != nil {
		c.t.Fatalf("%s: %s %s", expression, e.Text, e.Exception.Description)
	}
	if result != nil {
		if err := json.Unmarshal(answer.Result.Value, result); err != nil {
			c.t.Fatalf("%s: %v in %s", expression, err, answer.Result.Value)
		}
	}
}

// tab presses the tabulator key.
func (c *chromium) tab() {
	c.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		c.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
	}
}

// shoot keeps a picture of the whole page.
func (c *chromium) shoot(path string) {
	c.t.Helper()
	var picture struct{ Data string }
	c.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &picture)
	b, err := base64.StdEncoding.DecodeString(picture.Data)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		c.t.Fatal(err)
	}
	fmt.Fprintln(c.t.Output(), path)
}
