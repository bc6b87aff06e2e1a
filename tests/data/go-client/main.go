// A client on Go's crypto/tls: one HTTP request in mutual TLS, the answer on standard output.
//
//	go-client ADDRESS SERVER_NAME ALPN DIRECTORY
//
// The directory holds key.pem, cert-chain.pem and root-cert.pem. Standard library only.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: go-client ADDRESS SERVER_NAME ALPN DIRECTORY")
		os.Exit(2)
	}
	if err := call(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func call(address, serverName, alpn, directory string) error {
	file := func(name string) string { return filepath.Join(directory, name) }
	own, err := tls.LoadX509KeyPair(file("cert-chain.pem"), file("key.pem"))
	if err != nil {
		return err
	}
	root, err := os.ReadFile(file("root-cert.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return errors.New("root-cert.pem holds no certificate")
	}
	connection, err := tls.Dial("tcp", address, &tls.Config{
		ServerName:   serverName,
		NextProtos:   []string{alpn},
		Certificates: []tls.Certificate{own},
		// Workloads are known by the root behind them; a server name stands in no certificate.
		InsecureSkipVerify: true,
		VerifyConnection:   func(state tls.ConnectionState) error { return verify(state, roots) },
	})
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\nhost: bar\r\n\r\n"); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, connection)
	return err
}

func verify(state tls.ConnectionState, roots *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
	})
	return err
}
