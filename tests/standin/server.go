package standin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// Server serves one stand-in on a free port of the loopback interface.
type Server struct {
	URL string // such as http://127.0.0.1:41234

	http     *http.Server
	mu       sync.Mutex
	conns    map[net.Conn]http.ConnState
	accepted int
	peak     int
}

// Start serves a handler until Close.
func Start(handler http.Handler) (*Server, error) {
	return StartAt("127.0.0.1:0", handler)
}

// StartAt is Start at a given address, which must be on loopback.
func StartAt(address string, handler http.Handler) (*Server, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, errors.New("a stand-in serves loopback addresses only, not " + address)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://" + listener.Addr().String(), conns: make(map[net.Conn]http.ConnState)}
	s.http = &http.Server{Handler: handler, ConnState: s.track} //nolint:gosec // G112: loopback only, for tests
	go func() { _ = s.http.Serve(listener) }()
	return s, nil
}

// Close ends the server and every connection.
func (s *Server) Close() { _ = s.http.Close() }

func (s *Server) track(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.accepted++
		s.conns[conn] = state
		s.peak = max(s.peak, len(s.conns))
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, conn)
	default:
		s.conns[conn] = state
	}
}

// Connections counts a server's connections.
type Connections struct {
	Open     int // now
	Peak     int // most at once
	Accepted int // in all
}

// Connections returns the counts so far.
func (s *Server) Connections() Connections {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Connections{Open: len(s.conns), Peak: s.peak, Accepted: s.accepted}
}

// CloseIdle closes the connections that wait for a request, their first or a later
// one, as servers do after a while: in order (FIN), or with reset (RST). It returns
// how many they were.
func (s *Server) CloseIdle(reset bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for conn, state := range s.conns {
		if state == http.StateActive {
			continue
		}
		if tcp, ok := conn.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
		n++
	}
	return n
}
