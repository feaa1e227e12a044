package server

import (
	"fmt"
	"strings"

	"tidewater/catalog"
)

// Folders of the catalog's own objects below the warehouse. A level of a name
// never holds a dot once escaped, so names and suffixes cannot meet.
const (
	catalogDir      = "catalog/"
	namespaceSuffix = ".namespace/"
	tableSuffix     = ".table/"
)

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// escape writes what is not a letter, digit, _ or - as %XX.
func escape(level string) string {
	var b strings.Builder
	for i := range len(level) {
		if plain(level[i]) {
			b.WriteByte(level[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", level[i])
		}
	}
	return b.String()
}

func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		var c byte
		if i+2 >= len(s) {
			return "", false
		}
		if _, err := fmt.Sscanf(s[i+1:i+3], "%02X", &c); err != nil {
			return "", false
		}
		b.WriteByte(c)
		i += 2
	}
	return b.String(), true
}

// folderName is a level as it stands in a table's location: readable, without
// anything an engine might decode. The uuid behind it makes it unique.
func folderName(level string) string {
	b := []byte(level)
	for i := range b {
		if !plain(b[i]) {
			b[i] = '_'
		}
	}
	return string(b)
}

func (s *Server) root() string { return s.cfg.Prefix + "/" + catalogDir }

// namespaceDir is where the names inside a namespace are filed.
func (s *Server) namespaceDir(n catalog.Namespace) string {
	dir := s.root()
	for _, level := range n {
		dir += escape(level) + "/"
	}
	return dir
}

func (s *Server) namespaceSeries(n catalog.Namespace) series {
	return series{store: s.cfg.Store, dir: s.namespaceDir(n[:len(n)-1]) + escape(n[len(n)-1]) + namespaceSuffix, format: namespaceFormat}
}

func (s *Server) tableSeries(i catalog.Ident) series {
	return series{store: s.cfg.Store, dir: s.namespaceDir(i.Namespace) + escape(i.Name) + tableSuffix, format: tableFormat}
}

func (s *Server) defaultLocation(i catalog.Ident, id string) string {
	dir := s.cfg.Prefix
	for _, level := range i.Namespace {
		dir += "/" + folderName(level)
	}
	return s.cfg.uri(fmt.Sprintf("%s/%s-%.8s", dir, folderName(i.Name), id))
}
