package outcome

import (
	"encoding/json"
	"fmt"
	"net/http"

	"midas-sidecar/internal/wechat"
)

// Answer is what the caller gets, and what there is to say about it.
type Answer struct {
	Outcome  Outcome
	Attempts int
	// Replayed: it is the answer of an earlier call that said the same.
	Replayed bool
	// Errcode is the errcode in Body.
	Errcode int
	// ErrorCode is empty where Body is WeChat's own answer.
	ErrorCode ErrorCode
	// Trace is that of WeChat's last answer, also where Body is not WeChat's; zero where
	// there is none.
	Trace wechat.Trace
	// Cause says more in the log than a caller needs to know. It holds no secret.
	Cause error

	Status      int // of HTTP
	ContentType string
	Body        []byte
}

// ErrorCode is a stable word for an answer that is the sidecar's own, the value of
// the header Midas-Error.
type ErrorCode string

// The error codes.
const (
	InvalidRequest      ErrorCode = "invalid_request"
	NotFound            ErrorCode = "not_found"
	UnknownApp          ErrorCode = "unknown_app"
	Forbidden           ErrorCode = "forbidden"
	SessionMissing      ErrorCode = "session_missing"
	BillNoConflict      ErrorCode = "bill_no_conflict"
	SecretsUnavailable  ErrorCode = "secrets_unavailable"
	TokenUnavailable    ErrorCode = "token_unavailable"
	UpstreamUnreachable ErrorCode = "upstream_unreachable"
	OutcomeUnknown      ErrorCode = "outcome_unknown"
	TakenBack           ErrorCode = "taken_back"
)

// errorCodes gives each code the HTTP status and the errcode that make a caller do the
// right thing that looks at nothing else.
var errorCodes = map[ErrorCode]struct {
	status, errcode int
	outcome         Outcome
}{
	InvalidRequest:      {http.StatusBadRequest, 90018, NotSent},
	NotFound:            {http.StatusNotFound, 90018, NotSent},
	UnknownApp:          {http.StatusForbidden, 90017, NotSent},
	Forbidden:           {http.StatusForbidden, 90017, NotSent},
	SessionMissing:      {http.StatusUnauthorized, 90010, NotSent},
	BillNoConflict:      {http.StatusConflict, 90018, NotSent},
	SecretsUnavailable:  {http.StatusServiceUnavailable, -1, NotSent},
	TokenUnavailable:    {http.StatusServiceUnavailable, -1, NotSent},
	UpstreamUnreachable: {http.StatusBadGateway, -1, NotSent},
	OutcomeUnknown:      {http.StatusGatewayTimeout, -1, Unknown},
	TakenBack:           {http.StatusConflict, 90015, Rejected},
}

// RetryAfter returns how many seconds the caller should wait before it calls
// again, 0 for no advice.
func (a Answer) RetryAfter() int {
	switch {
	case a.ErrorCode == SecretsUnavailable, a.ErrorCode == TokenUnavailable:
		return 2 // what is missing in the store is looked for that often
	case a.ErrorCode == "" && a.Errcode == wechat.TooOften:
		return 60 // WeChat counts by the minute
	}
	return 0
}

// ErrorDetail is what an answer of the sidecar's own says besides its ErrorCode.
type ErrorDetail struct {
	Message  string // for a person; becomes errmsg
	BillNo   string
	Attempts int
	Cause    error
	Trace    wechat.Trace
	Status   int     // instead of the code's own, if not 0
	Outcome  Outcome // instead of the code's own, if not ""
	// UpstreamErrcode is the errcode of WeChat's last answer where that is not
	// passed on, nil if there was none.
	UpstreamErrcode *int
}

// NewErrorAnswer returns an answer of the sidecar's own. It speaks the API's language,
// so that a caller that only reads errcode does the right thing.
func NewErrorAnswer(code ErrorCode, d ErrorDetail) Answer {
	kind := errorCodes[code]
	if d.Status != 0 {
		kind.status = d.Status
	}
	if d.Outcome != "" {
		kind.outcome = d.Outcome
	}
	body, err := json.Marshal(struct {
		Errcode         int       `json:"errcode"`
		Errmsg          string    `json:"errmsg"`
		Error           ErrorCode `json:"error"`
		Outcome         Outcome   `json:"outcome"`
		Attempts        int       `json:"attempts"`
		BillNo          string    `json:"bill_no,omitempty"`
		UpstreamErrcode *int      `json:"upstream_errcode,omitempty"`
	}{kind.errcode, d.Message, code, kind.outcome, d.Attempts, d.BillNo, d.UpstreamErrcode})
	if err != nil {
		panic(fmt.Sprintf("outcome: encoding an answer of strings and numbers: %v", err))
	}
	return Answer{
		Outcome:     kind.outcome,
		Attempts:    d.Attempts,
		Errcode:     kind.errcode,
		ErrorCode:   code,
		Trace:       d.Trace,
		Cause:       d.Cause,
		Status:      kind.status,
		ContentType: "application/json",
		Body:        body,
	}
}
