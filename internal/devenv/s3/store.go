package s3

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
	"golang.org/x/sys/unix"

	"tidewater/internal/disk"
)

const (
	// Bucket is the bucket that Open makes.
	Bucket = "tidewater"
	// Region is the region the store answers for.
	Region = "us-east-1"
	// ReadOnlyKey is the default access key of the credential that may only read.
	ReadOnlyKey = "tidewater-readonly"

	connectionsMax = 4096
	requestsMax    = 1024
	partsMax       = 10000
	// portTries bounds how often another port is picked for ":0" when a
	// stranger takes the picked one before the store listens on it.
	portTries = 10
	// startWait is how long the front may take until it listens.
	startWait = 10 * time.Second
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
	front  *s3api.S3ApiServer
	served chan error

	closing sync.Once
	closed  error
}

// Open starts the store and returns once it listens. A directory that another
// process has open is disk.ErrLocked; a taken port is an error that names it.
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
	objects, err := openBackend(dir, cfg)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s := &Store{cfg: cfg, lock: lock}
	if err := s.serve(objects); err != nil {
		_ = lock.Close()
		return nil, err
	}
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

// serve starts the front. The front takes a port by number only, so port 0 is
// resolved by asking the kernel for a free one; if it is gone by the time the
// front binds it, another is asked for.
func (s *Store) serve(objects *backend) error {
	host, port, _ := net.SplitHostPort(s.cfg.Addr)
	var err error
	for range portTries {
		s.addr = s.cfg.Addr
		if port == "0" {
			if s.addr, err = freePort(host); err != nil {
				return fmt.Errorf("listen on %s for the development store: %w", s.cfg.Addr, err)
			}
		}
		if err = s.listen(objects); err == nil {
			return nil
		}
		if port != "0" || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

// Connections are not kept alive: with kept ones the front now and then reads
// the rest of a streamed body as the next request and answers it 400 (one in
// twenty of PyArrow's uploads, with the posix backend too).
func (s *Store) listen(objects *backend) error {
	listening := make(chan struct{})
	front, err := s3api.New(objects,
		middlewares.RootUserConfig{Access: s.cfg.AccessKey, Secret: s.cfg.SecretKey},
		Region, accounts{cfg: s.cfg}, nil, nil, nil, nil,
		s3api.WithQuiet(), s3api.WithDisableACL(),
		s3api.WithConcurrencyLimiter(connectionsMax, requestsMax),
		s3api.WithMpMaxParts(partsMax),
		s3api.WithOnListen(func() { close(listening) }))
	if err != nil {
		return fmt.Errorf("start development store: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- front.ServeMultiPort([]string{s.addr}) }()
	select {
	case <-listening:
		s.front, s.served = front, served
		return nil
	case err := <-served:
		return fmt.Errorf("listen on %s for the development store: %w", s.addr, err)
	case <-time.After(startWait):
		return fmt.Errorf("listen on %s for the development store: not ready after %s", s.addr, startWait)
	}
}

func freePort(host string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
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

// Close lets requests that run end, for at most ten seconds, and releases the
// directory. Calls after the first give the same result.
func (s *Store) Close() error {
	s.closing.Do(func() {
		err := s.front.ShutDown()
		<-s.served // its error only says that the listener was closed
		s.closed = errors.Join(err, s.lock.Close())
	})
	return s.closed
}
