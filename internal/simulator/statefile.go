package simulator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// parseState reads a state or seed. A field that is unknown, stands twice or
// holds a value that cannot be is an error that names it.
func parseState(text []byte) (State, error) {
	var state State
	if err := json.Unmarshal(text, &state, json.RejectUnknownMembers(true)); err != nil {
		return State{}, fmt.Errorf("reading the state: %w", err)
	}
	for _, order := range state.Orders {
		if order != nil && order.Returned && order.Refunded == 0 {
			order.Refunded = order.Amount // a file from before orders were given back in parts
		}
	}
	if err := state.check(); err != nil {
		return State{}, fmt.Errorf("reading the state: %w", err)
	}
	return state, nil
}

// encode returns the state as its file holds it.
func (s State) encode() ([]byte, error) {
	text, err := json.Marshal(s, json.Deterministic(true), jsontext.WithIndent("\t"))
	if err != nil {
		return nil, fmt.Errorf("writing the state: %w", err)
	}
	return append(text, '\n'), nil
}

// clone returns a deep copy of a state that can be.
func (s State) clone() (State, error) {
	text, err := s.encode()
	if err != nil {
		return State{}, err
	}
	return parseState(text)
}

func readOrCreate(file string) (State, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		demo := Demo()
		return demo, demo.write(file)
	}
	if err != nil {
		return State{}, err
	}
	state, err := parseState(text)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", file, err)
	}
	return state, nil
}

// write replaces the file as a whole: whoever reads it, and whatever interrupts
// us, sees the old state or the new one. The file is for its owner only.
func (s State) write(file string) (err error) {
	text, err := s.encode()
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".simulator-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	_, err = temp.Write(text)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}

// save keeps the state beyond this process, where a file was given for that.
func (s *Simulator) save() error {
	if s.file == "" {
		return nil
	}
	if err := s.state.write(s.file); err != nil {
		s.options.Log.Error("the state file cannot be written; a restart will not know the last change", "error", err)
		return err
	}
	return nil
}
