package cluster

import "fmt"

// topicNameBytesMax is Kafka's: a directory name with a partition number must
// fit 255 bytes.
const topicNameBytesMax = 249

// CheckTopicName applies Kafka's rules: letters, digits, '.', '_' and '-', at
// most 249 of them, and not "." or "..". The error is ErrInvalidTopicName.
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidTopicName)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q is a directory", ErrInvalidTopicName, name)
	case len(name) > topicNameBytesMax:
		return fmt.Errorf("%w: %d characters, at most %d are allowed", ErrInvalidTopicName, len(name), topicNameBytesMax)
	}
	for i := range len(name) {
		if !topicNameByte(name[i]) {
			return fmt.Errorf("%w: %q contains a character other than ASCII letters, digits, '.', '_' and '-'", ErrInvalidTopicName, name)
		}
	}
	return nil
}

func topicNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
