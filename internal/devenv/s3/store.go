package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tidewater/internal/disk"
)

const (
	// Bucket is the bucket that Open makes.
	Bucket = "tidewater"
	// Region is the region the store names; it answers for any.
	Region = "us-east-1"
	// ReadOnlyKey is the default access key of the credential that may only read.
	ReadOnlyKey = "tidewater-readonly"

	headerBytesMax = 64 << 10
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	closeTimeout   = 5 * time.Second
)

// Config says where the store lives and who may use it.
type Config struct {
	// Dir holds the buckets; it is made if missing.
	Dir string
	// Addr is host:port; port 0 picks a free one.
	Addr string
	// AccessKey and SecretKey may do everything. Empty means "tidewater".
	AccessKey, SecretKey string
	// ReadOnlyKey and ReadOnlySecret may get, head and list. Empty means
	// "tidewater-readonly" and the secret "tidewater".
	ReadOnlyKey, ReadOnlySecret string
	// NoSync leaves out the fsync of each object: for tests, where only the
	// process dies and never the machine.
	NoSync bool
}

func (c Config) withDefaults() Config {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Addr, "127.0.0.1:9000")
	set(&c.AccessKey, "tidewater")
	set(&c.SecretKey, "tidewater")
	set(&c.ReadOnlyKey, ReadOnlyKey)
	set(&c.ReadOnlySecret, "tidewater")
	return c
}

// Validate tells every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.Dir == "" {
		faults = append(faults, errors.New("development store: no directory given"))
	}
	if _, _, err := net.SplitHostPort(c.Addr); c.Addr != "" && err != nil {
		faults = append(faults, fmt.Errorf("development store: address %q: %w", c.Addr, err))
	}
	if full := c.withDefaults(); full.AccessKey == full.ReadOnlyKey {
		faults = append(faults, fmt.Errorf("development store: both credentials have the access key %q", full.AccessKey))
	}
	return errors.Join(faults...)
}

// Store is a running development store.
type Store struct {
	cfg    Config
	addr   string
	lock   *os.File
	http   *http.Server
	served chan error

	closing sync.Once
	closed  error
}

// Open starts the store; it listens when Open returns. A directory that
// another process has open is disk.ErrLocked; a taken port is an error that
// names it.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open development store %s: %w", cfg.Dir, err)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	objects, err := openDirectory(dir, cfg.NoSync)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("listen on %s for the development store: %w", cfg.Addr, err)
	}
	s := &Store{cfg: cfg, addr: l.Addr().String(), lock: lock, served: make(chan error, 1),
		http: &http.Server{Handler: &front{cfg: cfg, dir: objects}, MaxHeaderBytes: headerBytesMax,
			ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}}
	go func() { s.served <- s.http.Serve(l) }()
	return s, nil
}

// lockDirectory makes the directory and takes its lock, which the kernel
// gives back when the process ends in any way.
func lockDirectory(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open development store: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open development store: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open development store %s: %w", dir, disk.ErrLocked)
	}
	return lock, nil
}

// Addr is the host:port the store listens on.
func (s *Store) Addr() string { return s.addr }

// Endpoint is the URL clients are given, without a path.
func (s *Store) Endpoint() string { return "http://" + s.addr }

// AccessKey and SecretKey are the credential that may do everything.
func (s *Store) AccessKey() string { return s.cfg.AccessKey }

// SecretKey belongs to AccessKey.
func (s *Store) SecretKey() string { return s.cfg.SecretKey }

// ReadOnlyKey is the access key of the credential that may only read.
func (s *Store) ReadOnlyKey() string { return s.cfg.ReadOnlyKey }

// ReadOnlySecret belongs to ReadOnlyKey.
func (s *Store) ReadOnlySecret() string { return s.cfg.ReadOnlySecret }

// Close lets requests that run end, for at most five seconds, and releases the
// directory. Calls after the first give the same result.
func (s *Store) Close() error {
	s.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err := s.http.Shutdown(ctx)
		if err != nil {
			err = s.http.Close()
		}
		if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		s.closed = errors.Join(err, s.lock.Close())
	})
	return s.closed
}
