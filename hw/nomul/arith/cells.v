// Models of Nomul's generic standard cells, for simulators and for tools that have no better cell of their own.

module NOMUL_FA (input A, input B, input C, output S, output CO);
  assign S = A ^ B ^ C;
  assign CO = (A & B) | (C & (A | B));
endmodule

module NOMUL_HA (input A, input B, output S, output CO);
  assign S = A ^ B;
  assign CO = A & B;
endmodule

module NOMUL_AOI22 (input A1, input A2, input B1, input B2, output Y);
  assign Y = ~((A1 & A2) | (B1 & B2));
endmodule

module NOMUL_AOI222 (input A1, input A2, input B1, input B2, input C1, input C2, output Y);
  assign Y = ~((A1 & A2) | (B1 & B2) | (C1 & C2));
endmodule

module NOMUL_OAI22 (input A1, input A2, input B1, input B2, output Y);
  assign Y = ~((A1 | A2) & (B1 | B2));
endmodule

module NOMUL_OAI222 (input A1, input A2, input B1, input B2, input C1, input C2, output Y);
  assign Y = ~((A1 | A2) & (B1 | B2) & (C1 | C2));
endmodule

module NOMUL_BUF (input A, output Y);
  assign Y = A;
endmodule
