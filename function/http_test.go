package function_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/function"
	"increment-backup-download/tests/standin"
)

// A server closes a connection that was idle just as the next request comes.
func TestAdapters_AStaleConnectionIsNoFailure(t *testing.T) {
	for kind, fault := range map[string]standin.Kind{"closed": standin.Close, "reset": standin.Reset} {
		t.Run(kind, func(t *testing.T) {
			s := start(t)
			for i := range 5 {
				request := example
				request.ClientToken = strconv.Itoa(i)
				if i > 0 { // there is an idle connection
					s.dbsFaults.SetPlan(standin.Script(&standin.Fault{Kind: fault}))
					s.mnsFaults.SetPlan(standin.Script(&standin.Fault{Kind: fault}))
				}
				_, err := s.tasks.CreateTask(invocation(t, s.key), request)
				require.NoError(t, err)
				require.NoError(t, s.queue.Send(invocation(t, s.key), messages(strings.Repeat("x", 9000)))[0])
			}
			assert.Equal(t, 4, s.dbsFaults.Met())
			assert.Equal(t, 4, s.mnsFaults.Met())
			assert.Len(t, s.dbs.Tasks(), 5)
			assert.Len(t, s.mns.Messages("results"), 5)
		})
	}
}

func TestAdapters_NoRedirectTakesTheTokenElsewhere(t *testing.T) {
	var elsewhere atomic.Int32
	other, err := standin.Start(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	require.NoError(t, err)
	defer other.Close()
	s := start(t)
	fault := standin.Always(standin.Fault{Kind: standin.Redirect, Location: other.URL})
	s.dbsFaults.SetPlan(fault)
	s.mnsFaults.SetPlan(fault)
	_, err = s.tasks.CreateTask(invocation(t, s.key), example)
	require.Error(t, err)
	require.Error(t, s.queue.Send(invocation(t, s.key), messages("x"))[0])
	assert.Zero(t, elsewhere.Load())
}

// An instance that was frozen finds all its connections closed by the services.
func TestTransport_ResumesTheTLSSession(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.3": tls.VersionTLS13, "TLS 1.2": tls.VersionTLS12} {
		t.Run(name, func(t *testing.T) {
			var resumed, full atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.TLS.DidResume {
					resumed.Add(1)
				} else {
					full.Add(1)
				}
			}))
			server.TLS = &tls.Config{MaxVersion: version}
			server.StartTLS()
			defer server.Close()
			transport := function.NewTransport(4)
			transport.TLSClientConfig.RootCAs = x509.NewCertPool()
			transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
			for range 3 {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
				require.NoError(t, err)
				response, err := transport.RoundTrip(request)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, response.Body)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				server.CloseClientConnections()
				transport.CloseIdleConnections()
			}
			assert.EqualValues(t, 1, full.Load())
			assert.EqualValues(t, 2, resumed.Load())
		})
	}
}

func TestAdapters_AnAnswerThatIsTooLargeIsNotRead(t *testing.T) {
	for name, length := range map[string]string{"endless": "", "announced": "8454144"} {
		t.Run(name, func(t *testing.T) {
			server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				for r.Context().Err() == nil {
					if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
						return
					}
				}
			}))
			require.NoError(t, err)
			defer server.Close()
			ctx := invocation(t, standin.NewKey())
			_, err = function.NewDBS(server.URL, 1, noKey).CreateTask(ctx, example)
			assert.Contains(t, classified(t, err).Message, "larger than")
			err = function.NewQueue(server.URL, "q", noKey).Send(ctx, messages("x"))[0]
			assert.Contains(t, classified(t, err).Message, "larger than")
		})
	}
}

func TestAdapters_ATimeoutNamesTheHostAndTheTime(t *testing.T) {
	s := start(t)
	hang := standin.Always(standin.Fault{Kind: standin.Hang})
	s.dbsFaults.SetPlan(hang)
	s.mnsFaults.SetPlan(hang)
	// The time budget ends its contexts with a cause, which net/http returns.
	ctx, cancel := context.WithTimeoutCause(invocation(t, s.key), 50*time.Millisecond, errors.New("used up"))
	defer cancel()
	host := func(server *standin.Server) string { return strings.TrimPrefix(server.URL, "http://") }

	_, err := s.tasks.CreateTask(ctx, example)
	got := classified(t, err)
	assert.Equal(t, "Timeout", got.Code)
	require.ErrorIs(t, got, context.DeadlineExceeded)
	assert.Regexp(t, `^no answer from `+host(s.dbsServer)+` within \d+ms$`, got.Message)

	ctx, cancel = context.WithTimeoutCause(invocation(t, s.key), 50*time.Millisecond, errors.New("used up"))
	defer cancel()
	got = classified(t, s.queue.Send(ctx, messages("x"))[0])
	assert.Equal(t, "Timeout", got.Code)
	assert.Regexp(t, `^no answer from `+host(s.mnsServer)+` within \d+ms$`, got.Message)
}

// After a 101 the connection belongs to the caller, and no context ends it.
func TestAdapters_AnUpgradeDoesNotOutliveTheCall(t *testing.T) {
	held := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		<-held
		_ = connection.Close()
	}))
	defer server.Close()
	defer close(held)
	ended := make(chan error, 1)
	go func() {
		_, err := function.NewDBS(server.URL, 1, someKey).CreateTask(t.Context(), example)
		ended <- err
	}()
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "NotAnAnswer (HTTP 101)")
	case <-time.After(20 * time.Second):
		t.Fatal("the call waits for the server")
	}
}

// net/http logs what comes after an answer.
func TestAdapters_NoLogQuotesWhatFollowsAnAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}https://oss/file?Signature=hush")
		_ = connection.Close()
	}))
	defer server.Close()
	var mu sync.Mutex
	var logged, shown bytes.Buffer
	log.SetOutput(writer(func(line []byte) {
		mu.Lock()
		defer mu.Unlock()
		logged.Write(line)
		_, _ = function.NewQuiet(&shown).Write(line)
	}))
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	_, err := function.NewDBS(server.URL, 1, someKey).CreateTask(t.Context(), example)
	require.Error(t, err)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(logged.String(), "hush")
	}, 20*time.Second, time.Millisecond)
	log.Print("another line")
	mu.Lock()
	defer mu.Unlock()
	assert.NotContains(t, shown.String(), "hush")
	assert.Contains(t, shown.String(), "another line")
}

type writer func([]byte)

func (w writer) Write(line []byte) (int, error) {
	w(line)
	return len(line), nil
}

func TestTransport_GoesThroughTheProxyAndKeepsItsConnections(t *testing.T) {
	transport := function.NewTransport(7)
	assert.NotNil(t, transport.Proxy)
	assert.Equal(t, 7, transport.MaxConnsPerHost)
	assert.Equal(t, 7, transport.MaxIdleConnsPerHost)
}
