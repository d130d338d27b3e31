package pki

import "fmt"

// Rights are what a role allows; each includes those before it.
type Rights int

// The roles: who looks, who acts, and who says who may.
const (
	NoRights Rights = iota
	ViewerRights
	OperatorRights
	AdminRights
)

// Roles are the names of all roles, the one with the fewest rights first.
func Roles() []string { return []string{"viewer", "operator", "admin"} }

// ParseRole is the rights of a role.
func ParseRole(name string) (Rights, error) {
	for i, role := range Roles() {
		if role == name {
			return Rights(i + 1), nil
		}
	}
	return NoRights, fmt.Errorf("%q is no role: choose viewer, operator or admin", name)
}

// String is the role's name.
func (r Rights) String() string {
	if r <= NoRights || r > AdminRights {
		return "nobody"
	}
	return Roles()[r-1]
}
