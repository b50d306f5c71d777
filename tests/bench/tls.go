package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
)

// secure serves a stand-in over TLS, under a certificate that is trusted only by
// the executables that get its file in SSL_CERT_FILE.
type secure struct {
	*httptest.Server
}

func startSecure(handler http.Handler) secure { return secure{httptest.NewTLSServer(handler)} }

// writeCertificate writes the certificate, which is that of all these servers.
func (s secure) writeCertificate(folder string) (string, error) {
	path := filepath.Join(folder, "ca.pem")
	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600)
}

// freeze is what Function Compute does to an instance between two invocations:
// it stands still while the services close the connections that it keeps.
func (d *deployment) freeze() error {
	process := d.Process()
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for _, server := range d.secured {
		server.CloseClientConnections() // none is in use
	}
	return process.Signal(syscall.SIGCONT)
}

// secureBatches takes the first batch of a fresh instance, and those that find
// all connections closed.
func (b *bench) secureBatches() error {
	const events = 100
	if b.noGroup {
		return nil
	}
	first := figure{Name: "100 events over TLS, first", On: onDeployed, Unit: "ms", Yardstick: "minimal client"}
	closed := figure{Name: "100 events, TLS reconnecting", On: onDeployed, Unit: "ms", Yardstick: "minimal client"}
	at := place{deployed: true, tls: true, delays: true}
	fresh := func(executable string) func() (float64, error) {
		return func() (float64, error) {
			d, err := b.deploy(executable, at)
			if err != nil {
				return 0, err
			}
			defer d.close()
			took, err := d.handle(b.ctx, events, event{})
			return milliseconds(took), err
		}
	}
	if err := b.compare(first, 7, fresh(b.function), fresh(b.minimal)); err != nil {
		return err
	}
	var sides [2]func() (float64, error)
	for i, executable := range []string{b.function, b.minimal} {
		d, err := b.deploy(executable, at)
		if err != nil {
			return err
		}
		defer d.close()
		if _, err := d.handle(b.ctx, events, event{}); err != nil {
			return err
		}
		sides[i] = func() (float64, error) {
			if err := d.freeze(); err != nil {
				return 0, err
			}
			took, err := d.handle(b.ctx, events, event{})
			return milliseconds(took), err
		}
	}
	return b.compare(closed, 7, sides[0], sides[1])
}
