package redisstore

import (
	"strings"
	"testing"
)

// TestOldServersAreNamed: a server that lacks a command fails on connecting, with its version, and not later.
func TestOldServersAreNamed(t *testing.T) {
	for info, want := range map[string]string{
		"# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n":         "6.0.16",
		"redis_version:5.0.14\r\n":                                              "5.0.14",
		"redis_version:6.2.0\r\n":                                               "",
		"redis_version:7.0.15\r\n":                                              "",
		"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n": "",
		"redis_version:10.1\r\n":                                                "",
		"redis_version:unknown\r\n":                                             "",
		"":                                                                      "",
	} {
		err := checkVersion(info)
		if got := err != nil; got != (want != "") || got && !strings.Contains(err.Error(), want+",") {
			t.Errorf("%q: %v, want an error that names %q", info, err, want)
		}
	}
}
