package dbs

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// filePath starts the path of every download link.
const filePath = "/download/"

// IsFile reports whether a request fetches a file, so that a plan of faults can
// choose by it.
func IsFile(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, filePath) }

// File returns the content of a task's file, which differs at every 32 bytes, so that
// a piece in the wrong place shows.
func File(taskID string, size int64) []byte {
	content := make([]byte, 0, size+sha256.Size)
	for n := uint64(0); int64(len(content)) < size; n++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(taskID), n))
		content = append(content, sum[:]...)
	}
	return content[:size]
}

// ExpireLinks lets every link that was given so far be refused.
func (s *Service) ExpireLinks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.linkKey++
}

// link returns a signed link to a task's file. As in the official sample it has
// quotes and no scheme. The caller holds mu.
func (s *Service) link(host, taskID string, now time.Time) string {
	expires := strconv.FormatInt(now.Add(s.LinkLifetime).Unix(), 10)
	query := url.Values{"Expires": {expires}, "OSSAccessKeyId": {"standin"}, "Signature": {s.signLink(taskID, expires)}}
	return `"//` + host + filePath + taskID + "?" + query.Encode() + `"`
}

// signLink returns the signature of a link. The caller holds mu.
func (s *Service) signLink(taskID, expires string) string {
	mac := hmac.New(sha256.New, binary.BigEndian.AppendUint64([]byte(URLSecret), s.linkKey))
	mac.Write([]byte(taskID + "\n" + expires))
	return URLSecret + hex.EncodeToString(mac.Sum(nil))
}

// serveFile serves a task's file, one range a request as OSS does, to whoever has a
// link that has not expired. A link that is signed for GET is good for nothing else.
func (s *Service) serveFile(w http.ResponseWriter, r *http.Request) {
	id, query := strings.TrimPrefix(r.URL.Path, filePath), r.URL.Query()
	expires, err := strconv.ParseInt(query.Get("Expires"), 10, 64)
	s.mu.Lock()
	task := s.listed[id]
	signed := hmac.Equal([]byte(query.Get("Signature")), []byte(s.signLink(id, query.Get("Expires"))))
	s.files++
	s.mu.Unlock()
	switch {
	case r.Method != http.MethodGet || err != nil || !signed:
		writeFileError(w, http.StatusForbidden, "SignatureDoesNotMatch")
	case time.Now().Unix() >= expires:
		writeFileError(w, http.StatusForbidden, "AccessDenied")
	case task == nil:
		writeFileError(w, http.StatusNotFound, "NoSuchKey")
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(File(id, task.Size)))
	}
}

// FileCalls counts the requests for files.
func (s *Service) FileCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files
}

// writeFileError answers with an error in the form of OSS.
func writeFileError(w http.ResponseWriter, status int, code string) {
	body, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
	}{Code: code})
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
