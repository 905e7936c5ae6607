package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// fake is an API whose documents depend on the user:
//
//   - /token returns a new token for an hour with each request, by the client credentials grant.
//     The response forbids storing it: https://www.rfc-editor.org/rfc/rfc6749#section-4.4.3 and
//     section 5.1
//   - Documents may be kept for five minutes. Only the token tells whose document is meant. There
//     is no "Vary: Authorization", and a document has the same entity tag for all users. An origin
//     may do so, because a private cache is for one user:
//     https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2.7
type fake struct{ issued atomic.Int64 }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(map[string]any{
			"access_token": fmt.Sprintf("%s-%04d", r.FormValue("client_id"), f.issued.Add(1)),
			"token_type":   "Bearer", "expires_in": 3600,
		})
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	user, _, _ := strings.Cut(token, "-")
	if !ok || user == "" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	body := strings.Repeat("A line of "+r.URL.Path+" of "+user+".\n", 500)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "private, max-age=300")
	w.Header().Set("ETag", `"17"`) // the revision of a document: the same for all users
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
}
