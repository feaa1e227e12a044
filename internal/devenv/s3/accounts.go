package s3

import (
	"encoding/json"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"
)

// accounts knows the read-only credential; the front itself knows the other
// one. It cannot be changed over the wire.
type accounts struct{ cfg Config }

var _ auth.IAMService = accounts{}

// GetUserAccount gives the account of an access key.
func (a accounts) GetUserAccount(access string) (auth.Account, error) {
	if access == a.cfg.ReadOnlyKey {
		return auth.Account{Access: access, Secret: a.cfg.ReadOnlySecret, Role: auth.RoleUser}, nil
	}
	return auth.Account{}, auth.ErrNoSuchUser
}

// ResolveAccounts gives the keys that do not exist.
func (a accounts) ResolveAccounts(keys []string) ([]string, error) {
	missing := []string{}
	for _, key := range keys {
		if key != a.cfg.ReadOnlyKey && key != a.cfg.AccessKey {
			missing = append(missing, key)
		}
	}
	return missing, nil
}

// CreateAccount is refused.
func (accounts) CreateAccount(auth.Account) error {
	return s3err.GetAPIError(s3err.ErrAdminMethodNotSupported)
}

// UpdateUserAccount is refused.
func (accounts) UpdateUserAccount(string, auth.MutableProps) error {
	return s3err.GetAPIError(s3err.ErrAdminMethodNotSupported)
}

// DeleteUserAccount is refused.
func (accounts) DeleteUserAccount(string) error {
	return s3err.GetAPIError(s3err.ErrAdminMethodNotSupported)
}

// ListUserAccounts is refused.
func (accounts) ListUserAccounts() ([]auth.Account, error) {
	return nil, s3err.GetAPIError(s3err.ErrAdminMethodNotSupported)
}

// Shutdown has nothing to end.
func (accounts) Shutdown() error { return nil }

// readOnlyPolicy is the policy of every bucket: the read-only credential may
// list it and get its objects, and nothing else. The front asks it for every
// request that is not made with the other credential.
func readOnlyPolicy(bucket, access string) ([]byte, error) {
	type statement struct {
		Effect    string
		Principal map[string]string
		Action    []string
		Resource  []string
	}
	arn := "arn:aws:s3:::" + bucket
	return json.Marshal(struct{ Statement []statement }{[]statement{{
		Effect:    "Allow",
		Principal: map[string]string{"AWS": access},
		Action:    []string{"s3:GetObject", "s3:GetObjectAttributes", "s3:ListBucket", "s3:GetBucketLocation", "s3:GetBucketVersioning"},
		Resource:  []string{arn, arn + "/*"},
	}}})
}
