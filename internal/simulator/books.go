package simulator

import "net/http"

// The books are the state without its secrets, for a person or a test to read.
type (
	booksOfApp struct {
		OfferID string                   `json:"offer_id"`
		Players map[string]booksOfPlayer `json:"players"`
	}
	booksOfPlayer struct {
		LoggedIn bool  `json:"logged_in"`
		Official Purse `json:"official"`
		Sandbox  Purse `json:"sandbox"`
	}
)

// serveBooks answers GET /simulator/books.
func (s *Simulator) serveBooks(r *http.Request) *reply {
	if r.Method != http.MethodGet {
		return ownRefusal(http.StatusMethodNotAllowed, "the books are read with GET")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	apps := make(map[string]booksOfApp)
	for appid, app := range s.state.Apps {
		players := make(map[string]booksOfPlayer)
		for openid, p := range app.Players {
			players[openid] = booksOfPlayer{p.SessionKey != "", p.Official, p.Sandbox}
		}
		apps[appid] = booksOfApp{app.OfferID, players}
	}
	orders := make(map[string]Order)
	for id, order := range s.state.Orders {
		orders[id.String()] = *order
	}
	return ok(members{{"apps", apps}, {"orders", orders}, {"attempts", s.attempts.clone()}}, "")
}
