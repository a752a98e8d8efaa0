package messenger

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stack is a sandbox and a service of their own.
type stack struct {
	t              testing.TB
	folder         string
	sandboxAddress string
	serveArguments []string
	environment    []string
	serve          *process
}

type process struct {
	command *exec.Cmd
	address string
	// Closed when it has ended and said its last.
	ended chan struct{}
}

var listens = regexp.MustCompile(`listens.*?(\d+\.\d+\.\d+\.\d+:\d+)`)

func start(t testing.TB, environment []string, arguments ...string) *process {
	t.Helper()
	binary := os.Getenv("MESSENGER_CONNECTOR")
	if binary == "" {
		binary = "../../target/debug/messenger-connector"
	}
	command := exec.Command(binary, arguments...)
	command.Env = append(os.Environ(), environment...)
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		t.Fatalf("%v: build it with `cargo build`, or name it in MESSENGER_CONNECTOR", err)
	}
	started := &process{command: command, ended: make(chan struct{})}
	t.Cleanup(func() { started.end(syscall.SIGKILL) })
	lines, said := bufio.NewScanner(stdout), strings.Builder{}
	for started.address == "" && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if match := listens.FindStringSubmatch(lines.Text()); match != nil {
			started.address = match[1]
		}
	}
	// Read on, or it would wait once the pipe is full.
	go func() {
		defer close(started.ended)
		for lines.Scan() {
		}
		_ = command.Wait()
	}()
	if started.address == "" {
		t.Fatalf("%s does not start: %s", strings.Join(arguments, " "), said.String())
	}
	return started
}

func (p *process) end(signal syscall.Signal) {
	_ = p.command.Process.Signal(signal)
	<-p.ended
}

// service is what a scenario changes about its stack.
type service struct {
	Serve       *json.RawMessage
	Sandbox     *json.RawMessage
	Environment map[string]string
	Files       map[string]string
}

// nothingListens is an address without a service.
const nothingListens = "127.0.0.1:1"

func startStack(t testing.TB, raw json.RawMessage) *stack {
	t.Helper()
	var wanted service
	present := map[string]json.RawMessage{}
	if raw != nil {
		decode(t, raw, &wanted)
		decode(t, raw, &present)
	}
	s := &stack{t: t, folder: t.TempDir(), sandboxAddress: nothingListens}
	s.environment = []string{"PAGE_ACCESS_TOKEN=token"}
	for name, text := range wanted.Files {
		if err := os.WriteFile(filepath.Join(s.folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range wanted.Environment {
		s.environment = append(s.environment, name+"="+value)
	}
	if string(present["sandbox"]) != "null" {
		arguments := append([]string{"sandbox", "--listen", "127.0.0.1:0"}, s.arguments(wanted.Sandbox)...)
		s.sandboxAddress = start(t, nil, arguments...).address
	}
	s.serveArguments = append([]string{
		"--graph-url", "http://" + s.sandboxAddress, "--ledger", "sqlite://" + s.folder + "/ledger.db",
		"--rate-per-second", "0", "--media-rate-per-second", "0", "--admin-listen", "none",
	}, s.arguments(wanted.Serve)...)
	if string(present["serve"]) == "null" {
		s.serve = &process{address: nothingListens}
	} else {
		s.startService("127.0.0.1:0")
	}
	return s
}

func (s *stack) startService(listen string) {
	s.t.Helper()
	s.serve = start(s.t, s.environment, append([]string{"serve", "--listen", listen}, s.serveArguments...)...)
}

// restart ends the service by a signal and starts it again, on the same port and ledger.
func (s *stack) restart(signal string) {
	s.serve.end(map[string]syscall.Signal{"SIGKILL": syscall.SIGKILL, "SIGTERM": syscall.SIGTERM}[signal])
	s.startService(s.serve.address)
}

func (s *stack) arguments(raw *json.RawMessage) (arguments []string) {
	if raw != nil {
		decode(s.t, *raw, &arguments)
	}
	for n, argument := range arguments {
		arguments[n] = s.path(argument)
	}
	return arguments
}

func (s *stack) path(text string) string {
	return strings.NewReplacer("{folder}", s.folder, "{certificates}", "../certificates").Replace(text)
}

// connection is what a scenario connects with.
type connection struct {
	Key string
	TLS *struct{ CA, Certificate, Key string }
}

func (s *stack) connect(with connection) *Client {
	s.t.Helper()
	options := Options{Key: with.Key}
	if with.TLS != nil {
		options.TLS = &tls.Config{}
		if with.TLS.CA != "" {
			authority, err := os.ReadFile(s.path(with.TLS.CA))
			if err != nil {
				s.t.Fatal(err)
			}
			options.TLS.RootCAs = x509.NewCertPool()
			options.TLS.RootCAs.AppendCertsFromPEM(authority)
		}
		if with.TLS.Certificate != "" {
			own, err := tls.LoadX509KeyPair(s.path(with.TLS.Certificate), s.path(with.TLS.Key))
			if err != nil {
				s.t.Fatal(err)
			}
			options.TLS.Certificates = []tls.Certificate{own}
		}
	}
	client, err := Connect(s.serve.address, options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// state is what the sandbox counts.
type state struct{ Delivered, Duplicates int }

func (s *stack) state() (counted state) {
	s.t.Helper()
	s.get("/sandbox/state", &counted)
	return counted
}

func (s *stack) get(path string, into any) {
	s.t.Helper()
	response, err := http.Get("http://" + s.sandboxAddress + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		s.t.Fatal(err)
	}
}

// waitForDelivered waits until the sandbox has delivered so many messages.
func (s *stack) waitForDelivered(count int) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.state().Delivered < count; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d delivered", s.state().Delivered, count)
		}
	}
}

func decode(t testing.TB, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}
