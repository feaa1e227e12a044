package s3

import (
	"path"
	"strings"
)

const (
	keyBytesMax  = 1024
	nameBytesMax = 255
)

// fileName gives the path of a key below its bucket. Each level of the key is
// one name; what a file system cannot have as a name is written with percent
// signs, so no key leads out of the bucket and none is lost.
func fileName(key string) (string, error) {
	if key == "" {
		return "", invalid("InvalidArgument", "The key is empty.")
	}
	if len(key) > keyBytesMax {
		return "", keyTooLong()
	}
	levels := strings.Split(key, "/")
	for i, level := range levels {
		levels[i] = escapeLevel(level)
		if len(levels[i]) > nameBytesMax {
			return "", keyTooLong()
		}
	}
	return path.Join(levels...), nil
}

func escapeLevel(level string) string {
	switch level {
	case "":
		return "%"
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	return strings.NewReplacer("%", "%25", "\x00", "%00").Replace(level)
}

// levelOf undoes escapeLevel.
func levelOf(name string) string {
	if name == "%" {
		return ""
	}
	return strings.NewReplacer("%2E", ".", "%00", "\x00", "%25", "%").Replace(name)
}

func keyTooLong() error {
	return invalid("KeyTooLongError", "The key, or a part of it between slashes, is too long.")
}
