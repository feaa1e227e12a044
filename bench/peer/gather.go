package peer

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed pom.xml
var pom []byte

//go:embed log4j2.xml
var logging []byte

// Kafka is a gathered Kafka.
type Kafka struct {
	Version string
	java    string
	dir     string // of the version; libs/ has the jars
}

// Gather returns the Kafka of pom.xml below dir, fetching it if it is not there
// whole.
func Gather(ctx context.Context, dir string) (*Kafka, error) {
	java, err := need("java", "a Java runtime: apt-get install default-jre-headless")
	if err != nil {
		return nil, err
	}
	version := regexp.MustCompile(`<kafka.version>(.*)</kafka.version>`).FindSubmatch(pom)
	if version == nil {
		return nil, errors.New("pom.xml names no version of Kafka")
	}
	k := &Kafka{Version: string(version[1]), java: java}
	k.dir = filepath.Join(dir, "kafka-"+k.Version)
	if have, err := os.ReadFile(filepath.Join(k.dir, "pom.xml")); err == nil && string(have) == string(pom) {
		return k, k.writeLogging()
	}
	if err := k.fetch(ctx); err != nil {
		return nil, fmt.Errorf("gather Kafka %s: %w", k.Version, err)
	}
	return k, k.writeLogging()
}

// fetch fills the directory; pom.xml is written last and stands for the whole.
func (k *Kafka) fetch(ctx context.Context) error {
	maven, err := need("mvn", "Maven: apt-get install maven")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(k.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return err
	}
	asked := filepath.Join(k.dir, "pom.xml.asked")
	if err := os.WriteFile(asked, pom, 0o644); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, maven, "-q", "-B", "-f", asked, "dependency:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+k.libs()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mvn: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Rename(asked, filepath.Join(k.dir, "pom.xml"))
}

func (k *Kafka) writeLogging() error { return os.WriteFile(k.logging(), logging, 0o644) }

func need(program, install string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed; the comparison needs %s", program, install)
	}
	return path, nil
}

func (k *Kafka) libs() string    { return filepath.Join(k.dir, "libs") }
func (k *Kafka) logging() string { return filepath.Join(k.dir, "log4j2.xml") }
