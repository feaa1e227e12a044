package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	signAlgorithm = "AWS4-HMAC-SHA256"
	signTime      = "20060102T150405Z"
	// skewMax is how far a client's clock may be off.
	skewMax = 15 * time.Minute
)

// authorize checks the request's signature (version 4, in the header) and
// gives the access key it was made with.
func authorize(r *http.Request, secrets map[string]string, now time.Time) (string, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", denied("The request is not signed.")
	}
	rest, ok := strings.CutPrefix(header, signAlgorithm+" ")
	if !ok {
		return "", invalid("AuthorizationHeaderMalformed", "Only "+signAlgorithm+" is understood.")
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) < 5 {
		return "", invalid("AuthorizationHeaderMalformed", "The credential is not KEY/DATE/REGION/s3/aws4_request.")
	}
	access := strings.Join(scope[:len(scope)-4], "/")
	scope = scope[len(scope)-4:]
	secret, known := secrets[access]
	if !known {
		return "", &fault{http.StatusForbidden, "InvalidAccessKeyId", "The access key does not exist in this store."}
	}
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(signTime, date)
	if err != nil || !strings.HasPrefix(date, scope[0]) {
		return "", denied("The request has no valid X-Amz-Date.")
	}
	if skew := now.Sub(at); skew > skewMax || skew < -skewMax {
		return "", &fault{http.StatusForbidden, "RequestTimeTooSkewed", "The clocks of client and store differ too much."}
	}
	canonical := canonicalRequest(r, strings.Split(fields["SignedHeaders"], ";"))
	sum := sha256.Sum256([]byte(canonical))
	toSign := fmt.Sprintf("%s\n%s\n%s\n%s", signAlgorithm, date, strings.Join(scope, "/"), hex.EncodeToString(sum[:]))
	key := []byte("AWS4" + secret)
	for _, part := range append(scope, toSign) {
		key = mac(key, part)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(fields["Signature"])) {
		return "", &fault{http.StatusForbidden, "SignatureDoesNotMatch", "The signature is not what the secret key gives."}
	}
	return access, nil
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

func canonicalRequest(r *http.Request, signed []string) string {
	var query []string
	for name, values := range r.URL.Query() {
		for _, value := range values {
			query = append(query, awsEscape(name, false)+"="+awsEscape(value, false))
		}
	}
	slices.Sort(query)
	var headers strings.Builder
	for _, name := range signed {
		var value string
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		default:
			values := slices.Clone(r.Header.Values(name))
			for i := range values {
				values[i] = strings.Join(strings.Fields(values[i]), " ")
			}
			value = strings.Join(values, ",")
		}
		headers.WriteString(name + ":" + value + "\n")
	}
	return strings.Join([]string{r.Method, awsEscape(r.URL.Path, true), strings.Join(query, "&"),
		headers.String(), strings.Join(signed, ";"), r.Header.Get("X-Amz-Content-Sha256")}, "\n")
}

// awsEscape escapes all but the unreserved characters of RFC 3986.
func awsEscape(s string, keepSlash bool) string {
	escaped := strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
	escaped = strings.ReplaceAll(escaped, "%7E", "~")
	if keepSlash {
		escaped = strings.ReplaceAll(escaped, "%2F", "/")
	}
	return escaped
}
