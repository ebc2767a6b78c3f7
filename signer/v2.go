package signer

// V2 is what the two signatures of a v2 call cover: the bytes that are sent.
type V2 struct {
	// Path is the upstream path without query.
	Path string
	// Body is the body, byte for byte.
	Body []byte
}

// AppendPaySig appends pay_sig, made with the Midas key of the body's env.
func (r V2) AppendPaySig(dst []byte, midasKey *Key) []byte {
	s := signings.Get().(*signing)
	defer s.release()
	s.text = append(s.text, r.Path...)
	s.text = append(s.text, '&')
	s.text = append(s.text, r.Body...)
	return midasKey.secret().appendHMAC(dst, s)
}

// AppendSignature appends signature, made with the player's session_key. It covers
// neither path nor access_token.
func (r V2) AppendSignature(dst []byte, sessionKey *Key) []byte {
	s := signings.Get().(*signing)
	defer s.release()
	s.text = append(s.text, r.Body...)
	return sessionKey.secret().appendHMAC(dst, s)
}
