package wechat

import "strings"

// CleanPath returns path without what a slip adds to a URL: upper-case letters, doubled and
// trailing slashes, dot segments, and parameters, which follow a semicolon. Every path
// of this package is clean, so a request whose path is not one of them, but cleans to
// one, meant that one.
func CleanPath(path string) string {
	var clean []string
	for segment := range strings.SplitSeq(path, "/") {
		segment, _, _ = strings.Cut(segment, ";")
		switch segment {
		case "", ".":
		case "..":
			clean = clean[:max(0, len(clean)-1)]
		default:
			clean = append(clean, segment)
		}
	}
	return "/" + strings.ToLower(strings.Join(clean, "/"))
}
